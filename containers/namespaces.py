"""The namespaces of a container beside that of the network: its own, the machine's, or another container's [CTR-15]."""

from __future__ import annotations

import os

from pybuild.containers.order import HOST, OWN_IPC, ContainerNamespaces, joined_name
from pybuild.executor.steps.spec import StepSharing
from pybuild.model.errors import UsageError

_JOINABLE = ("IPC mode", "PID mode")
_OWN = ("", "private")


def check_namespaces(given: ContainerNamespaces) -> ContainerNamespaces:
    """Return the modes if there are such.

    Raises:
        UsageError: there are not.
    """
    kinds = (
        ("IPC mode", given.ipc, OWN_IPC),
        ("PID mode", given.pid, _OWN),
        ("UTS mode", given.uts, _OWN),
        ("cgroup namespace mode", given.cgroup, _OWN),
        ("user namespace mode", given.user, _OWN),
    )
    for kind, mode, own in kinds:
        joins = kind in _JOINABLE and joined_name(mode)
        if not (mode in own or mode == HOST or joins):
            expected = [one for one in (*own, HOST) if one]
            expected += ["container:NAME"] if kind in _JOINABLE else []
            raise UsageError(
                f"invalid {kind}: {mode[:100]}", hints=[f"one of {', '.join(expected)}"]
            )
    return given._replace(
        pid=given.pid.removeprefix("private"), uts=given.uts.removeprefix("private")
    )


def hostname_for(given: ContainerNamespaces, hostname: str, own: str) -> str:
    """Return the name of the host as the container sees it: *hostname*, else *own*, or the machine's.

    Raises:
        UsageError: one was given, and it has the machine's.
    """
    if given.uts != HOST:
        return hostname or own
    if hostname:
        raise UsageError(
            "conflicting options: hostname and the UTS mode", hints=["leave out one of the two"]
        )
    return os.uname().nodename


def step_sharing(given: ContainerNamespaces) -> StepSharing:
    """Return the sandbox's order, but for the processes of others, which are looked up at each start."""
    if given == ContainerNamespaces():  # as nearly all are
        return StepSharing()
    from pybuild.executor.zygote import syscalls

    shared = (
        (not given.has_own_ipc, syscalls.CLONE_NEWIPC),
        (bool(given.pid), syscalls.CLONE_NEWPID),
        (given.uts == HOST, syscalls.CLONE_NEWUTS),
        (given.cgroup == HOST, syscalls.CLONE_NEWCGROUP),
    )
    flags = sum(flag for is_shared, flag in shared if is_shared)
    ipc = "joined" if joined_name(given.ipc) else given.ipc
    return StepSharing(flags, ipc if ipc in (HOST, "none", "joined") else "")
