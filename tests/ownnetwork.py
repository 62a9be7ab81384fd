"""A network namespace for the tests of one process.

Containers have the default bridge unless they are told otherwise, steps of builds have one, too, and servers of
tests listen somewhere: on the machine's own network, two processes that test at once would meet there, and
whatever a killed one leaves would stay. A namespace goes with its last process.
"""

from __future__ import annotations

from contextlib import suppress

from pybuild.executor.zygote import syscalls
from pybuild.networks.rtnetlink import Rtnetlink

_LOOPBACK = 1


def enter_own_network() -> None:
    """Have this process, and those that it starts, in a new network with a loopback device, where that can be had."""
    with suppress(OSError):
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with Rtnetlink() as kernel:
            kernel.set_up(_LOOPBACK)
