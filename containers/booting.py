"""Containers that their restart policies have started again when the machine has come up [CTR-34, MON-7]."""

from __future__ import annotations

from collections.abc import Sequence

from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.state import ContainerState
from pybuild.model.errors import PybuildError


def start_after_boot(containers: Containers) -> Sequence[PybuildError]:
    """Start those that are to run, the oldest first; return what went wrong."""
    failed: list[PybuildError] = []
    for one in reversed(containers.list()):
        try:
            if _is_to_run(one, one.state()):
                containers.start(one)
        except PybuildError as error:
            failed.append(error)
    return failed


def _is_to_run(one: Container, state: ContainerState) -> bool:
    name = one.config.restart.name
    return (
        bool(state.started)
        and not state.lives
        and (
            name == "always"
            or (name == "unless-stopped" and not state.stopped)
            or (name == "on-failure" and state.exit_code != 0 and not state.stopped)
        )
    )
