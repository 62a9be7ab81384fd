"""The numbers that the kernel tells of a process in ``/proc/PID/status`` and by a pidfd, and what they mean."""

from __future__ import annotations

import fcntl
import os
import struct

_CAP_SYS_ADMIN = 21
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO = struct.Struct("=Q52xi")  # mask, ids, exit code: of Linux 6.15 and later
_PIDFD_INFO_EXIT = 8
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


def exit_code(pidfd: int) -> int | None:
    """Return the exit code of a process that has ended, whosever child it was; None: nobody will know.

    Who dies of a signal has 128 and its number. A pidfd tells the code of a process that was waited for,
    from Linux 6.15 on; before it is waited for, ``/proc`` tells it.
    """
    status = _reaped(pidfd)
    if status is None:
        status = _unreaped(pidfd)
        again = _reaped(pidfd)  # waited for meanwhile, and its number perhaps another's
        status = status if again is None else again
    if status is None:
        return None
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def _unreaped(pidfd: int) -> int | None:
    """Return how a process has ended that was not waited for."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as info:
            process = int(info.read().partition(b"\nPid:")[2].split()[0])
        with open(f"/proc/{process}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError, IndexError):
        return None
    return int(fields[-1]) if fields[0] == b"Z" else None


def _reaped(pidfd: int) -> int | None:
    """Return how a process has ended that was waited for, as wait(2) tells it."""
    info = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    mask, status = _PIDFD_INFO.unpack(info)
    return int(status) if mask & _PIDFD_INFO_EXIT else None


def pidfds_tell_codes() -> bool:
    """Whether the kernel tells by a pidfd how a process has ended that was waited for; tried once."""
    if not _tells:
        _tells.append(_try_pidfd())
    return _tells[0]


_tells: list[bool] = []


def _try_pidfd() -> bool:
    process = os.fork()
    if process == 0:
        os._exit(7)
    pidfd = os.pidfd_open(process)
    os.waitpid(process, 0)
    try:
        return exit_code(pidfd) == 7
    finally:
        os.close(pidfd)


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
