"""The lock that a monitor holds for its life: whoever can take it knows that there is none [MON-3]."""

from __future__ import annotations

import fcntl
import time

from pybuild.executor.zygote.faults import USER, Fault


def take(lock: int) -> None:
    """Take the container's lock, past those who only look whether somebody has it.

    Raises:
        Fault: user; another monitor has it.
    """
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fault(USER, "the container is running already") from None
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(0.001)  # who looks has it for a moment
