"""Terminals of a process's own, made in its own /dev so that their names are true there."""

from __future__ import annotations

import fcntl
import os
import struct

from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.users import StepUser

_TIOCSWINSZ = 0x5414  # as in `setup`
Size = tuple[int, int]
"""Rows and columns; both 0 where nobody knows them."""


def take_own(size: Size, user: StepUser) -> int:
    """Make a new terminal the standard streams of this process; return the end that shows it.

    Raises:
        Fault: environment; there is none to be had.
    """
    try:
        master, slave = os.openpty()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Fault(ENVIRONMENT, f"cannot make a terminal: {reason}", ("leave -t away",)) from error
    resize(master, size)
    try:
        os.fchown(slave, user.uid, -1)  # to be opened by its name
    except OSError:
        pass  # there is one user only
    for number in range(3):
        os.dup2(slave, number)
    os.close(slave)
    return master


def resize(terminal: int, size: Size) -> None:
    """Give a terminal the size at which it is shown; a size of nothing is none."""
    if any(size):
        fcntl.ioctl(terminal, _TIOCSWINSZ, struct.pack("=4H", *size, 0, 0))
