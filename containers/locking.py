"""The lock that a monitor holds for its life: whoever can take it knows that there is none [MON-3]."""

from __future__ import annotations

import fcntl
import os
import time

from pybuild.containers.order import LOCK
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


def open_and_take(home: int) -> int:
    """Return the lock of the container whose directory is *home*, taken as above."""
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=home)
    take(lock)
    return lock
