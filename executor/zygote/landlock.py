"""Keeps a step that shares the host's network from its abstract unix sockets [SBX-21].

Such sockets have no file and no owner, only a network namespace: a display, a message bus, a
container engine's shim, with nothing but its own checks between it and root in a step. Landlock can
keep a process from those that were not made by itself or its children, since Linux 6.12; before
that nothing can, short of another network (CVE-2020-15257).
"""

from __future__ import annotations

import struct

from pybuild.executor.zygote import syscalls

_LANDLOCK_CREATE_RULESET_VERSION = 1
_SCOPE_ABSTRACT_UNIX_SOCKET = 1
_FIRST_ABI_WITH_SCOPES = 6
_ATTRIBUTES = struct.Struct("=3Q")  # file accesses, network accesses, scopes


def _version() -> int:
    """Return the kernel's version of Landlock, 0 without any."""
    try:
        return syscalls.landlock_create_ruleset(b"", _LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


_VERSION = _version()  # for all children of a zygote


def possible() -> bool:
    """Whether this kernel can do it."""
    return _VERSION >= _FIRST_ABI_WITH_SCOPES


def leave_abstract_sockets() -> None:
    """Cut this process off from abstract sockets of others, where that can be done.

    While CAP_SYS_ADMIN is there, which leaves no_new_privs off, or under no_new_privs. Nothing else
    is restricted.
    """
    if not possible():
        return
    ruleset = syscalls.landlock_create_ruleset(
        _ATTRIBUTES.pack(0, 0, _SCOPE_ABSTRACT_UNIX_SOCKET), 0
    )
    try:
        syscalls.landlock_restrict_self(ruleset)
    finally:
        syscalls.close_quietly(ruleset)
