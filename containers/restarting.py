"""When a container that has ended is started again, and after how long. Pure [CTR-33]."""

from __future__ import annotations

from pybuild.containers.order import RestartPolicy

_FIRST_S, _MOST_S = 0.1, 60.0
_LONG_ENOUGH_S = 10.0
"""After so long a run the next delay is the first one again."""


def restarts(policy: RestartPolicy, status: int, count: int, *, stopped: bool) -> bool:
    """Whether it is started again.

    Args:
        status: its exit code; *count*: how often it was started again already.
        stopped: somebody stopped it.
    """
    if stopped or policy.name == "no":
        return False
    if policy.name == "on-failure":
        return status != 0 and not (policy.most and count >= policy.most)
    return True


def delay(before: float, ran_s: float) -> float:
    """Return the seconds until it is started again.

    Args:
        before: the delay before; 0 before the first.
    """
    if not before or ran_s >= _LONG_ENOUGH_S:
        return _FIRST_S
    return min(_MOST_S, before * 2)
