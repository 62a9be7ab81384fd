"""A step on a copy of its snapshot, where no overlay can be mounted [SBX].

The job's process is a supervisor: it copies the step's root together, starts the step in it, kills
what the step leaves behind, and moves what was changed into the delta. Where only the store's file
system is to blame, the step has its namespaces (`namespaced`). Else it is put into its root by
chroot(2); what this does not give is in docs/rootless.md: the step sees the processes and the
network of whatever container we are in, and can harm what runs in it as root.
"""

from __future__ import annotations

import os
import resource
import stat

from pybuild.executor.zygote import (
    cgroups,
    isolation,
    privileges,
    setup,
    syscalls,
    ulimits,
    usernet,
    users,
    wire,
    worker,
)
from pybuild.executor.zygote.chroot import family, namespaced
from pybuild.executor.zygote.chroot.sources import MountSources
from pybuild.executor.zygote.chroot.stubs import Stubs
from pybuild.executor.zygote.copied import leaves, scanning
from pybuild.executor.zygote.copied.applying import apply
from pybuild.executor.zygote.copied.difference import collect
from pybuild.executor.zygote.copied.merging import merge
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.image.layer.confined import remove
from pybuild.model.border import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from _socket import socket as RawSocket
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepSpec
    from pybuild.executor.zygote.connections import StepNetwork
else:
    import _signal as signal

_SIGTERM, _SIGKILL, _SIGALRM = 15, 9, 14
_GRACE_SECONDS = 0.25  # less than the main process gives us


def supervise(
    channel: RawSocket,
    fds: list[int],
    leaf: cgroups.Leaf,
    net: usernet.Usernet,
    connected: StepNetwork | None,
) -> NoReturn:
    """Do the step that *channel* asks for and end with its status; arguments as `become_step`'s."""
    status = 1
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        worker.prepare_for_depth()
        spec = unpacked(wire.receive_one(channel))
        status = _Step(channel, fds, leaf, net, connected, files, spec).run()
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        family.end_descendants()
        try:
            channel.sendall(wire.frame(worker.fault_message(error)))
        except OSError:  # it was a container, and runs no more
            os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
    os._exit(status)


class _Step:
    def __init__(
        self,
        channel: RawSocket,
        fds: list[int],
        leaf: cgroups.Leaf,
        net: usernet.Usernet,
        connected: StepNetwork | None,
        files: tuple[int, int],
        spec: StepSpec,
    ) -> None:
        self._channel = channel
        self._fds = fds
        self._leaf = leaf
        self._net = net
        self._connected = connected
        self._files = files  # how many a step may open: ours is raised
        self._spec = spec
        self._pid = 0
        self._is_ended = False
        _refuse(spec)

    def run(self) -> int:
        """Return the status, when the delta is complete."""
        spec = self._spec
        root = spec.work + "/root"
        userxattr = isolation.uses_userxattr()
        self._make_root(root, userxattr=userxattr)
        _check_kernels(root)
        marks = scanning.scan(root)
        goes_on = spec.is_container and bool(os.listdir(spec.upper))
        if goes_on:  # what an earlier run has written is a change to this one's layers, too
            scanning.wait_for_the_clock()
            apply(spec.upper, root, leaves.copy_real, userxattr=userxattr)
        sources = MountSources(spec.work + "/sources", userxattr=userxattr)
        stubs = Stubs(root, spec.work + "/aside")
        try:
            try:
                for path, target in sources.prepare(spec):
                    stubs.put(path, target)
                stubs.settle()
                self._warn(sources.warnings)
                scanning.wait_for_the_clock()
                status = self._follow(root)
            finally:
                family.end_descendants()
                stubs.take_away(marks)
            sources.finish()
        finally:
            sources.forget()
        if spec.readonly:
            return status
        if goes_on:
            self._collect_anew(root, marks, userxattr=userxattr)
        else:
            collect(root, marks, spec.upper, userxattr=userxattr)
        if spec.keep:
            apply(spec.upper, root, leaves.copy_real, userxattr=userxattr)
            os.rename(root, spec.keep)
        return status

    def _collect_anew(self, root: str, marks: scanning.Marks, *, userxattr: bool) -> None:
        """Put the delta in the place of the one that an earlier run has left."""
        spec = self._spec
        made, before = spec.work + "/made", spec.work + "/before"
        os.mkdir(made, 0o755)
        collect(root, marks, made, userxattr=userxattr)
        os.rename(spec.upper, before)
        os.rename(made, spec.upper)
        work = os.open(spec.work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        remove(work, b"before")
        os.close(work)

    def _make_root(self, root: str, *, userxattr: bool) -> None:
        """Make the tree of the step's deltas, of the one that is given if there is one."""
        spec = self._spec
        if spec.tree:
            os.rename(spec.tree, root)
            for lower in spec.lowers[spec.tree_of :]:
                apply(lower, root, leaves.copy_real, userxattr=userxattr)
            return
        os.mkdir(root, 0o755)
        merge(spec.lowers, root, leaves.copy_real, userxattr=userxattr)

    def _warn(self, warnings: list[str]) -> None:
        for text in warnings:
            self._channel.sendall(wire.frame(("warning", text)))

    def _join_cgroups(self) -> None:
        try:
            self._leaf.join_all()
        except FileNotFoundError:
            # Another zygote has taken it for one that was left behind: copying took a minute.
            self._leaf.has_pids = False
            self._warn(["its cgroup was removed meanwhile: its limits are not enforced"])

    # --- the step's process -----------------------------------------------------------------------

    def _follow(self, root: str) -> int:
        """Start the step and return its status."""
        # Blocked until its number is known, so that an end asked for meanwhile reaches it.
        signals = {_SIGTERM, _SIGALRM}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.signal(_SIGTERM, self._end)
        signal.signal(_SIGALRM, self._end)
        supervisor = os.getpid()
        if isolation.mounts():
            flags = setup.namespaces(self._spec.network)
            self._pid, pidfd = syscalls.clone3(flags)
            syscalls.close_quietly(pidfd)
        else:
            self._pid = os.fork()
        if self._pid == 0:
            self._become(root, supervisor)
        self._net.start(self._pid)
        syscalls.close_quietly(*self._fds)
        if self._spec.is_container:  # its end tells that the program runs, not that it has ended
            self._channel.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        _, status = os.waitpid(self._pid, 0)
        self._is_ended = True
        self._net.stop()
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def _end(self, number: int, _frame: object) -> None:
        """Ask the step to end, and a moment later do not ask."""
        if self._is_ended:
            return
        os.kill(self._pid, _SIGTERM if number == _SIGTERM else _SIGKILL)
        if number == _SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS)

    def _become(self, root: str, supervisor: int) -> NoReturn:
        """Become the program of the step; in the child."""
        spec, channel = self._spec, self._channel
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
            if os.getppid() not in (supervisor, 0):  # 0: it is in another pid namespace
                os._exit(1)
            self._join_cgroups()
            os.setsid()
            try:
                syscalls.join_session_keyring("pybuild")
            except OSError:
                pass  # The filter of a container refuses it.
            root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            user = users.resolve(root_fd, spec.user, spec.privileges.groups)
            environment = setup.environment_of(spec, user.home)
            resource.setrlimit(resource.RLIMIT_NOFILE, self._files)
            self._warn([*self._leaf.warnings, *ulimits.apply(spec.ulimits)])
            if not self._leaf.has_pids:
                ulimits.bound_processes(self._leaf.pids)
            setup.reset_signals()
            if self._connected is not None:
                self._connected.enter()
                self._connected.close()
            if isolation.mounts():
                namespaced.enter(spec, root, self._net)
            else:
                os.fchdir(root_fd)
                os.chroot(".")
                os.chdir("/")
            setup.take_streams(self._fds)
            setup.take_terminal()
            setup.enter_cwd(spec.cwd, user)
            os.umask(0o022)
            listener = privileges.confine(
                user,
                insecure=spec.insecure,
                shares_network=not spec.own_network,
                given=spec.privileges,
            )
            # A change of credentials has made the kernel forget it.
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)
            setup.say_ready(channel, listener, [])
        except BaseException as error:  # noqa: BLE001 - all of it is reported
            channel.sendall(wire.frame(worker.fault_message(error)))
            os._exit(1)
        setup.execute(spec.args, environment, channel if spec.lasting else None)


def _check_kernels(root: str) -> None:
    """Refuse images in which what the kernel's file systems belong in is something else.

    Raises:
        Fault: user.
    """
    for name in ("proc", "dev", "sys"):
        path = f"{root}/{name}"
        if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
            raise Fault(USER, f"/{name} in the image is not a directory")


def _refuse(spec: StepSpec) -> None:
    """Refuse what only namespaces and mounts can give.

    Raises:
        Fault: environment; with what would allow it.
    """
    setup.check(spec)
    obstacle = ""
    if spec.oci is not None:
        obstacle = "an OCI runtime needs overlay mounts in the store"
    elif isolation.mounts():
        pass
    elif spec.own_network:
        obstacle = f"network mode {spec.network} needs a network namespace"
    elif spec.insecure:
        obstacle = "security mode insecure needs mounts"
    if obstacle:
        raise Fault(
            ENVIRONMENT,
            f"{obstacle}, which this machine does not allow (rung {isolation.rung()})",
            ("see pybuild doctor for what would allow it",),
        )
