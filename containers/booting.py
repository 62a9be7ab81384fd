"""Containers that their restart policies have started again when the machine has come up [CTR-34, MON-7]."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.cache.disk.locks import boot_id
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.state import ContainerState
from pybuild.model.errors import PybuildError


def start_after_boot(
    containers: Containers,
) -> tuple[Sequence[Container], Sequence[PybuildError]]:
    """Start those that are to run, the oldest first; return them, and what went wrong.

    Once a boot: one that somebody has stopped or started since the machine has come up is left alone.
    """
    started: list[Container] = []
    failed: list[PybuildError] = []
    boot = boot_id() or ""
    for one in reversed(containers.list()):
        try:
            if runs_after_boot(one.config.restart.name, one.state(), boot):
                containers.start(one)
                started.append(one)
        except PybuildError as error:
            failed.append(error)
    return started, failed


def runs_after_boot(policy: str, state: ContainerState, boot: str) -> bool:
    """Whether a container with this restart policy is to be started in the boot of this id. Pure."""
    if not state.started or state.lives or state.boot == boot:
        return False
    if policy == "on-failure":
        return state.exit_code != 0 and not state.stopped
    return policy == "always" or (policy == "unless-stopped" and not state.stopped)
