"""The numbers that the kernel tells of a process in ``/proc/PID/status``, and what they mean."""

from __future__ import annotations

import os

_CAP_SYS_ADMIN = 21
_INITIAL_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO: its inode, on every Linux


def number(name: str, process: int | str = "self", base: int = 16) -> int:
    """Return the number of the line *name*, 0 where there is no such line.

    Sets of capabilities and of signals are masks in hexadecimal.

    Raises:
        OSError: it cannot be read, such as that of a process that is gone.
    """
    with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0], base)
    return 0


def inner(process: int) -> int:
    """Return the first process of a container whose own is *process*, which may be its supervisor.

    A container that works on a copy of its tree has one, whose root directory and other namespaces are
    this machine's: whoever goes where *process* is would be here, and no signal may end it before it has kept
    what the container wrote. 0: it has no child yet, or none any more.
    """
    try:
        if not os.path.samestat(os.stat(f"/proc/{process}/root"), os.stat("/")):
            return process
        with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:
            return int((file.read().split() or ["0"])[0])
    except OSError:
        return process


def may_administer() -> bool:
    """Return whether this process is root with the capability to mount, here or in a user namespace."""
    return os.geteuid() == 0 and bool(number("CapEff") >> _CAP_SYS_ADMIN & 1)


def is_initial() -> bool:
    """Whether ids are the machine's, and CAP_SYS_ADMIN is what its name says.

    Root of a user namespace has all capabilities, but no more ids than were mapped, no attributes
    named ``trusted.``, and no sysfs of a network namespace that is not its own.
    """
    try:
        return os.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_NAMESPACE
    except OSError:
        return True  # a kernel without user namespaces


_SIGHUP, _SIGINT, _SIGQUIT, _SIGKILL, _SIGTERM = 1, 2, 3, 9, 15
_ENDING = (_SIGTERM, _SIGINT, _SIGHUP, _SIGQUIT)


def ending(process: int, signal: int) -> int:
    """Return the signal that does to a namespace's first process what *signal* does to others.

    The kernel does not deliver to it what it does not catch; to wait out a grace time for that would
    be wasted.
    """
    if signal not in _ENDING or catches(process, signal):
        return signal
    return _SIGTERM if catches(process, _SIGTERM) else _SIGKILL


def catches(process: int, signal: int) -> bool:
    """Return whether *process* has a handler for *signal*, or has it blocked, as who waits for it does."""
    try:
        known = number("SigCgt", process) | number("SigBlk", process)
        return bool(known >> (signal - 1) & 1)
    except OSError:
        return False
