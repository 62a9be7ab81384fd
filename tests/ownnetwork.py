"""A network namespace for the tests of one process.

Containers have the default bridge unless they are told otherwise, steps of builds have one, too, and servers of
tests listen somewhere: on the machine's own network, two processes that test at once would meet there, and
whatever a killed one leaves would stay. A namespace goes with its last process.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress

from pybuild.executor.zygote import syscalls
from pybuild.networks.rtnetlink import Rtnetlink

_LOOPBACK = 1
_MACHINES: list[int] = []
"""The descriptor of the machine's own network, once this process has left it."""


def enter_own_network() -> None:
    """Have this process, and those that it starts, in a new network with a loopback device, where that can be had."""
    with suppress(OSError):
        machines = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        _MACHINES.append(machines)
        with Rtnetlink() as kernel:
            kernel.set_up(_LOOPBACK)


@contextmanager
def machines_network() -> Generator[None]:
    """Have this process in the machine's own network for the block, from which others are reached."""
    if not _MACHINES:
        yield
        return
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(_MACHINES[0], syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNET)
    finally:
        os.close(own)
