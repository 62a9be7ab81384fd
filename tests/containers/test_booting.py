"""Containers that are started again when the machine has come up [CTR-34, MON-7]."""

from __future__ import annotations

import pytest

from pybuild.containers.booting import runs_after_boot
from pybuild.containers.state import ContainerState

ENDED = ContainerState("exited", boot="before", started=1, exit_code=255)


@pytest.mark.parametrize(
    ("policy", "state", "runs"),
    [
        ("always", ENDED, True),
        ("always", ENDED._replace(stopped=True), True),
        ("unless-stopped", ENDED, True),
        ("unless-stopped", ENDED._replace(stopped=True), False),
        ("on-failure", ENDED, True),
        ("on-failure", ENDED._replace(exit_code=0), False),
        ("on-failure", ENDED._replace(stopped=True), False),
        ("no", ENDED, False),
        ("always", ContainerState(), False),  # it was created, and never started
        ("always", ENDED._replace(boot="now"), False),  # somebody has stopped it since
        ("always", ENDED._replace(boot="now", status="running"), False),
    ],
)
def test_who_runs_after_a_boot(policy: str, state: ContainerState, runs: bool) -> None:
    assert runs_after_boot(policy, state, "now") is runs
