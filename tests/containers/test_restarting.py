"""When a container is started again, and after how long [CTR-33]."""

from __future__ import annotations

import pytest

from pybuild.containers.order import RestartPolicy
from pybuild.containers.restarting import delay, restarts


@pytest.mark.parametrize(
    ("policy", "status", "count", "result"),
    [
        (RestartPolicy("no"), 1, 0, False),
        (RestartPolicy("always"), 0, 99, True),
        (RestartPolicy("unless-stopped"), 0, 0, True),
        (RestartPolicy("on-failure"), 0, 0, False),
        (RestartPolicy("on-failure"), 1, 99, True),
        (RestartPolicy("on-failure", 2), 1, 1, True),
        (RestartPolicy("on-failure", 2), 1, 2, False),
    ],
)
def test_policies(policy: RestartPolicy, status: int, count: int, result: bool) -> None:
    assert restarts(policy, status, count, stopped=False) is result
    assert not restarts(policy, status, count, stopped=True)


def test_the_delay_doubles_to_a_minute_and_begins_anew_after_a_long_run() -> None:
    delays = [0.0]
    for _ in range(12):
        delays.append(delay(delays[-1], ran_s=1.0))
    assert delays[1:5] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert delay(60.0, ran_s=10.0) == 0.1
