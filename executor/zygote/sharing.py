"""Namespaces that a container has together with the machine, or with another container [CTR-15].

It enters those of others itself, once it is made; a process namespace alone must be entered before.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote import isolation, overlay, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepSharing

_SHM = "/dev/shm"


def enter(sharing: StepSharing) -> int:
    """Enter them; return the tree that is to be /dev/shm, -1: one is to be made.

    Raises:
        OSError: they are gone, or not ours to enter.
    """
    if sharing.ipc == "host":
        return syscalls.open_tree(syscalls.AT_FDCWD, _SHM)
    if sharing.ipc_of < 0:
        return -1
    syscalls.setns(sharing.ipc_of, syscalls.CLONE_NEWIPC)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Only there can its mount be copied; and only this process, which has no threads, is away.
        syscalls.setns(sharing.ipc_of, syscalls.CLONE_NEWNS)
        try:
            return syscalls.open_tree(syscalls.AT_FDCWD, _SHM)
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNS)
    finally:
        os.close(own)


def proc(sharing: StepSharing, attributes: int) -> int:
    """Return the mount that is to be /proc: a new one, or the machine's where that alone can be had."""
    if sharing.flags & syscalls.CLONE_NEWPID and sharing.pids_of < 0 and isolation.uses_userxattr():
        tree = syscalls.open_tree(
            syscalls.AT_FDCWD, "/proc", syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE
        )
        syscalls.mount_setattr(tree, attributes, recursive=True)
        return tree
    return overlay.filesystem("proc", attributes)
