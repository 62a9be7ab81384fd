"""A further process in the namespaces of a step that runs: exec.

It is the zygote's own child, so that its end and its signals are those of any job, and a member of the
step's cgroup and process namespace, so that it ends with the step. Processes of the step can see it
before it has become its program; what it holds until then is not theirs to look at.
"""

from __future__ import annotations

import os

from pybuild.executor.zygote import (
    isolation,
    sandbox,
    setup,
    syscalls,
    ulimits,
    users,
    wire,
    worker,
)
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.model.border import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as RawSocket
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepSpec
    from pybuild.executor.zygote.cgroups import Leaf

_NUMBER_BYTES = 32
_NAMESPACES = (
    ("cgroup", syscalls.CLONE_NEWCGROUP),
    ("ipc", syscalls.CLONE_NEWIPC),
    ("mnt", syscalls.CLONE_NEWNS),
    ("net", syscalls.CLONE_NEWNET),
    ("pid", syscalls.CLONE_NEWPID),
    ("uts", syscalls.CLONE_NEWUTS),
)
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Place:
    """A living step, held open: its namespaces and its root. For the zygote.

    Args:
        pidfd: the zygote's of the step's process *pid*; the place has one of its own.

    Raises:
        Fault: it has ended, or nothing can be started beside it.
    """

    def __init__(self, pid: int, pidfd: int, leaf: Leaf) -> None:
        if not isolation.mounts() or isolation.records():
            raise Fault(
                ENVIRONMENT,
                f"no second process can be started in a container on this rung ({isolation.rung()})",
                isolation.SUB_ID_HINTS,
            )
        self.leaf = leaf
        try:
            # Not the namespace's: a step made ahead is in its root by chroot(2).
            self.root = os.open(f"/proc/{pid}/root", _ROOT)
            # One that is ours already may belong to somebody who lets us in no second time.
            self._others = sum(flag for name, flag in _NAMESPACES if _differ(pid, name))
        except OSError as error:
            raise has_ended() from error
        self.pidfd = os.dup(pidfd)

    def clone(self) -> tuple[int, int]:
        """Fork into the step's process namespace; return as `syscalls.clone3` does.

        Raises:
            OSError, Fault: there is no process.
        """
        if not self._others & syscalls.CLONE_NEWPID:
            return syscalls.clone3(0, cgroup_fd=self.leaf.into_fd)
        return clone_beside(self.pidfd, 0, self.leaf.into_fd)

    def enter(self, *, own_network: bool) -> None:
        """Change to the step's other namespaces and its root. For the new process."""
        flags = self._others & ~syscalls.CLONE_NEWPID
        flags |= syscalls.CLONE_NEWNET if own_network else 0
        syscalls.setns(self.pidfd, flags)
        os.fchdir(self.root)
        os.chroot(".")

    def close(self) -> None:
        os.close(self.root)
        os.close(self.pidfd)


def clone_beside(beside: int, flags: int, cgroup_fd: int) -> tuple[int, int]:
    """Fork into the process namespace of *beside*, a pidfd; return as `syscalls.clone3` does.

    Who goes into a namespace to have children there may not come back out of it, unless it is root
    outside as well. So below root a process goes in whose only child is ours from the beginning.

    Raises:
        OSError, Fault: there is no process.
    """
    own = os.pidfd_open(os.getpid())
    try:
        if may_return_to(own):
            return _clone_there(beside, own, flags, cgroup_fd)
    finally:
        os.close(own)
    read_end, write_end = os.pipe()
    try:
        helper = os.fork()
        if helper == 0 and not _clone_for_parent(beside, flags, cgroup_fd, write_end):
            os.close(read_end)
            os.close(write_end)
            return 0, -1
        os.close(write_end)
        write_end = -1
        number = os.read(read_end, _NUMBER_BYTES)
        os.waitpid(helper, 0)
    finally:
        syscalls.close_quietly(*(fd for fd in (read_end, write_end) if fd >= 0))
    if not number:
        raise has_ended()
    return int(number), os.pidfd_open(int(number))


def may_return_to(own: int) -> bool:
    """Whether we may have children in the process namespace that they are in anyway, after we have left it."""
    try:
        syscalls.setns(own, syscalls.CLONE_NEWPID)
    except OSError:
        return False
    return True


def _clone_there(beside: int, own: int, flags: int, cgroup_fd: int) -> tuple[int, int]:
    """Fork into the process namespace of *beside*; later children of ours are in our own again."""
    pid = -1
    try:
        syscalls.setns(beside, syscalls.CLONE_NEWPID)
        pid, pidfd = syscalls.clone3(flags, cgroup_fd=cgroup_fd)
    except OSError as error:  # no process can begin where the first one is ending
        raise has_ended() from error
    finally:
        if pid != 0:
            syscalls.setns(own, syscalls.CLONE_NEWPID)
    return pid, pidfd


def _clone_for_parent(beside: int, flags: int, cgroup_fd: int, write_end: int) -> int:
    """Return 0 in a new child of our parent; we ourselves end, and tell its number before."""
    try:
        syscalls.setns(beside, syscalls.CLONE_NEWPID)
        pid, _ = syscalls.clone3(syscalls.CLONE_PARENT | flags, 0, cgroup_fd=cgroup_fd)
        if pid == 0:
            return 0
        os.write(write_end, str(pid).encode())
    except OSError:
        pass  # who reads no number knows enough
    os._exit(0)


def _differ(pid: int, name: str) -> bool:
    """Return whether a process has another namespace than we of the kind that /proc calls *name*."""
    ours, theirs = (os.stat(f"/proc/{one}/ns/{name}").st_ino for one in ("self", pid))
    return ours != theirs


def has_ended() -> Fault:
    return Fault(USER, "the container has ended")


def become_joined(channel: RawSocket, fds: list[int], place: Place) -> NoReturn:
    """Become the program that *channel* asks for, as `sandbox.become_step`, beside the step of *place*.

    Of its `StepSpec` nothing is mounted: the step has done that.
    """
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        place.leaf.join()
        spec: StepSpec = unpacked(wire.receive_one(channel))
        setup.check(spec)
        place.enter(own_network=spec.own_network)
        os.setsid()
        sandbox.begin_keyring()
        user = users.resolve(place.root, spec.user, spec.privileges.groups)
        setup.go_to(spec.cwd)
        place.close()
        os.umask(0o022)
        for warning in ulimits.apply(spec.ulimits):
            channel.sendall(wire.frame(("warning", warning)))
        if not place.leaf.has_pids:
            ulimits.bound_processes(place.leaf.pids)
        environment = sandbox.confine(channel, fds, spec, user, None, [], has_lists=False)
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        channel.sendall(wire.frame(worker.fault_message(error)))
        os._exit(1)
    setup.execute(spec.args, environment, channel if spec.lasting else None)
