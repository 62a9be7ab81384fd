"""The processes of jobs: from their fork to the end of their cgroups, and how each ended."""

from __future__ import annotations

import _socket
import os
import select
import time

from pybuild.executor.steps.spec import StepExit
from pybuild.executor.zygote import cgroups, isolation, procstatus, rootfs, syscalls, worker
from pybuild.executor.zygote.connections import StepNetwork, StepNetworks
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.executor.zygote.recorder.keeper import Keeper, Link
from pybuild.executor.zygote.usernet import Usernet

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepStart
    from pybuild.executor.zygote import joining
else:
    import _signal as signal  # the C part; signal.py imports enum

REMOVE_AGAIN_MS = 20
_REMOVALS_AT_THE_END = 50
_SIGINT, _SIGKILL = 2, 9


class Child:
    """A job's process.

    Attributes:
        oom_kills: of the whole machine before it, -1: unknown or not asked for.
        leaf: its cgroups; None for a call.
        work: a step's work directory; "" for a call.
        net: its own network, if it has one; *connected*: the same by a namespace that outlives it.
        copied: it is a step's supervisor.
        joined: it is a further process of a step, whose cgroups it shares.
    """

    def __init__(
        self,
        job: str,
        pid: int,
        leaf: cgroups.Leaf | None,
        net: Usernet,
        work: str,
        *,
        copied: bool = False,
        joined: bool = False,
        connected: StepNetwork | None = None,
    ) -> None:
        self.job = job
        self.work = work
        self.net = net
        self.pid = pid
        self.leaf = leaf
        self.copied = copied
        self.joined = joined
        self.connected = connected
        self.oom_kills = cgroups.oom_kills() if leaf is not None and not leaf.places else -1
        self.start = time.monotonic()


class Children:
    """All of them, watched by the poller of the process that has them.

    Args:
        poller: gets a pidfd for each, which it says readable when `reap` has something to do.
        name: of their cgroups, with the job's behind it.
        say: is told how a job ended, once all that it did is written down.
        leave: lets go, in a new process, of what is its parent's alone.

    Attributes:
        networks: for steps that ask for one.
    """

    def __init__(
        self,
        poller: select.poll,
        name: str,
        say: Callable[[str, StepExit], None],
        leave: Callable[[], None],
    ) -> None:
        self._poller = poller
        self._name = name
        self._leave = leave
        self._living: dict[int, Child] = {}  # by pidfd
        self._by_job: dict[str, int] = {}
        self._leaving: list[cgroups.Leaf] = []
        self.networks = StepNetworks()
        self._recorders = Keeper(say, lambda job: self.kill(job, _SIGKILL))

    def __len__(self) -> int:
        return len(self._living)

    def may_be_left(self, job: str) -> bool:
        """Whether another process can go on where this one ends: there is nothing but the one job, if that."""
        if len(self._recorders) or self._leaving or not isolation.mounts():
            return False
        pidfd = self._by_job.get(job, -1)
        if pidfd not in self._living:
            return not self._living
        child = self._living[pidfd]
        has_more = child.net.is_served or child.connected is not None
        has_leaf = child.leaf is not None and bool(child.leaf.places)
        return len(self._living) == 1 and has_leaf and not has_more

    def fds(self) -> tuple[int, ...]:
        """Return the descriptors that are for nobody but this process."""
        connected = (one.connected for one in self._living.values())
        held = (fd for one in connected if one is not None for fd in one.fds())
        return (*self._living, *self._recorders.pidfds(), *self.networks.fds(), *held)

    def pid(self, job: str) -> int:
        """Return the process number of a job that lives."""
        return self._living[self._by_job[job]].pid

    def pidfd(self, job: str) -> int:
        """Return the pidfd of a job that lives."""
        return self._by_job[job]

    # --- start ------------------------------------------------------------------------------------

    def start_call(self, job: str, function: str, fds: list[int]) -> None:
        """Have a call done; *fds*, which are ours to close, are its channel and what it is given.

        Raises:
            OSError, Fault: there is no process, and the descriptors are the caller's still.
        """
        worker.preload(function)
        pid = os.fork()
        if pid == 0:
            self._begin(fds, worker.exit_after)
        self.add(Child(job, pid, None, Usernet(False), ""), os.pidfd_open(pid))
        syscalls.close_quietly(*fds)

    def start_step(
        self, job: str, step: StepStart, fds: list[int], *, copied: bool, apart: bool = False
    ) -> None:
        """Have a step done; as `start_call`.

        Args:
            copied: on a copy of its snapshot, under a supervisor.
            apart: that one has a network namespace of its own, which it shares with the step.
        """
        from pybuild.executor.zygote import setup

        leaf: cgroups.Leaf | None = None
        net = Usernet(False)
        connected: StepNetwork | None = None
        link = Link(isolation.records())
        try:
            net = Usernet(step.kind.network == "isolated" and isolation.mounts())
            connected = self.networks.take(step.kind.connecting)
            leaf = cgroups.make(step.kind.limits, f"{self._name}-{job}", changes=step.lasting)
            if copied and apart:
                pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWNET)
            elif copied:
                pid = os.fork()
                pidfd = os.pidfd_open(pid) if pid else -1
            else:
                flags = setup.namespaces(step.kind.network, step.sharing.flags)
                pid, pidfd = self._clone(flags, step.sharing.pids_of, leaf.into_fd)
        except (OSError, Fault):
            if leaf is not None:
                self.retire(leaf)
            link.close()
            net.abandon()
            self.networks.give_back(connected)
            raise
        if pid == 0:
            own = leaf

            def become(channel: _socket.socket, fds: list[int]) -> NoReturn:
                if copied:
                    from pybuild.executor.zygote.chroot import step

                    step.supervise(channel, fds, own, net, connected)
                from pybuild.executor.zygote import sandbox

                if connected is not None:
                    connected.enter()
                    connected.close()
                sandbox.become_step(channel, fds, own, link.for_step(), net)

            self._begin(fds, become)
        if copied:
            net.abandon()  # its supervisor has it
            net = Usernet(False)
        net.start(pid)
        syscalls.close_quietly(*fds)
        child = Child(job, pid, leaf, net, step.work, copied=copied, connected=connected)
        self.add(child, pidfd)
        if link.ends:
            self._start_recorder(job, link)

    def _clone(self, flags: int, beside: int, cgroup_fd: int) -> tuple[int, int]:
        """Return as `syscalls.clone3` does; the child is in the process namespace of *beside*, if that is one."""
        if beside < 0:
            return syscalls.clone3(flags, cgroup_fd=cgroup_fd)
        from pybuild.executor.zygote import joining

        return joining.clone_beside(beside, flags, cgroup_fd)

    def start_joined(self, job: str, of: str, fds: list[int]) -> None:
        """Have a further process started in the step that is the job *of*; as `start_call`.

        Raises:
            Fault: the step has ended, or there can be none.
        """
        from pybuild.executor.zygote import joining

        known = self._by_job.get(of)
        step = None if known is None else self._living[known]
        if known is None or step is None or step.leaf is None:
            raise joining.has_ended()
        if step.copied:
            raise Fault(
                ENVIRONMENT,
                "no second process can be started in a container that works on a copy",
                isolation.SUB_ID_HINTS,
            )
        self.start_in(job, joining.Place(step.pid, known, step.leaf), fds)

    def start_in(self, job: str, place: joining.Place, fds: list[int]) -> None:
        """Have a further process started in a place, which is closed after it; as `start_call`."""
        from pybuild.executor.zygote import joining

        try:
            pid, pidfd = place.clone()
            if pid == 0:

                def become(channel: _socket.socket, fds: list[int]) -> NoReturn:
                    joining.become_joined(channel, fds, place)

                self._begin(fds, become)
        finally:
            place.close()
        syscalls.close_quietly(*fds)
        self.add(Child(job, pid, None, Usernet(False), "", joined=True), pidfd)

    def leaf(self, job: str) -> cgroups.Leaf | None:
        """Return the cgroups of a job that lives."""
        return self._living[self._by_job[job]].leaf

    def add(self, child: Child, pidfd: int) -> None:
        """Take over a job's process."""
        self._living[pidfd] = child
        self._by_job[child.job] = pidfd
        self._poller.register(pidfd, select.POLLIN)

    def _begin(
        self, fds: list[int], become: Callable[[_socket.socket, list[int]], NoReturn]
    ) -> NoReturn:
        try:
            self._leave()
            signal.signal(_SIGINT, signal.SIG_DFL)
            become(channel_of(fds.pop(0)), fds)
        except BaseException as error:  # noqa: BLE001 - must not unwind into its parent's loop
            complain(error)
        finally:
            os._exit(1)

    def _start_recorder(self, job: str, link: Link) -> None:
        try:
            pid = os.fork()
        except OSError:
            pid = -1  # The step finds nobody at the other end, says so and ends.
        if pid == 0:
            self._record(link)
        link.close()
        if pid > 0:
            self._poller.register(self._recorders.add(job, pid), select.POLLIN)

    def _record(self, link: Link) -> NoReturn:
        """Be a recorder; see there."""
        status = 1
        try:
            self._leave()
            from pybuild.executor.zygote.recorder import loop

            loop.record(link.for_recorder())
            status = 0
        except BaseException as error:  # noqa: BLE001 - must not unwind into its parent's loop
            complain(error)
        finally:
            os._exit(status)

    # --- end --------------------------------------------------------------------------------------

    def kill(self, job: str, number: int, *, exactly: bool = False) -> None:
        """Send a signal to a job's process; nothing happens when it is gone.

        Args:
            exactly: this one, though the process may not catch it.
        """
        pidfd = self._by_job.get(job)
        if pidfd is None:
            return
        child = self._living[pidfd]
        if not (child.joined or exactly):
            number = procstatus.ending(child.pid, number)
        try:
            syscalls.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass

    def reap(self, pidfd: int) -> None:
        """Handle the end of the process that *pidfd* is of."""
        self._poller.unregister(pidfd)
        if pidfd not in self._living:
            self._recorders.reap(pidfd)
            return
        child = self._living.pop(pidfd)
        del self._by_job[child.job]
        _, status, usage = os.wait4(child.pid, 0)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        code = 128 - code if code < 0 else code
        seconds = time.monotonic() - child.start
        child.net.stop()
        self._end_strays()
        peak, oom_kills, pids_hit = -1, -1, False
        if child.leaf is not None:
            peak, oom_kills, pids_hit = child.leaf.usage()
        # Without a memory cgroup the count is the whole machine's, so that another's kill can be
        # taken for ours; there is no better source.
        oom = oom_kills > 0
        if oom_kills < 0 <= child.oom_kills:
            oom = code != 0 and cgroups.oom_kills() > child.oom_kills
        rss = usage.ru_maxrss * 1024
        cpu = usage.ru_utime + usage.ru_stime
        ended = StepExit(code, seconds, rss, max(peak, 0), oom, pids_hit, cpu_seconds=cpu)
        self._recorders.report(child.job, ended)
        # Only now: who waits for the step's end does not wait for this.
        self.networks.give_back(child.connected)
        if child.work:
            rootfs.remove_work(child.work)
        if child.leaf is not None:
            self.retire(child.leaf)

    def retire(self, leaf: cgroups.Leaf) -> None:
        """Remove cgroups whose processes have ended, now or as soon as the kernel lets us."""
        if not leaf.remove():
            self._leaving.append(leaf)

    def tidy(self) -> bool:
        """Remove the cgroups that could not be at once; False: some are left, try it again."""
        if self._leaving:
            self._leaving = [leaf for leaf in self._leaving if not leaf.remove()]
        return not self._leaving

    @property
    def is_tidying(self) -> bool:
        """Whether cgroups are left that could not be removed yet."""
        return bool(self._leaving)

    def kill_all(self) -> None:
        """End all, and wait until nothing of them is left."""
        for pidfd in self._living:
            try:
                syscalls.pidfd_send_signal(pidfd, _SIGKILL)
            except OSError:
                pass
        # A namespace's first process is gone only when those that joined it were waited for.
        for child in sorted(self._living.values(), key=lambda child: not child.joined):
            try:
                os.waitpid(child.pid, 0)
            except OSError:
                pass
            child.net.stop()
            if child.leaf is not None:
                self._leaving.append(child.leaf)
        self._living.clear()
        self._end_strays()
        self._recorders.wait_all()
        for _ in range(_REMOVALS_AT_THE_END):
            if self.tidy():
                break
            time.sleep(REMOVE_AGAIN_MS / 1000)

    def _end_strays(self) -> None:
        """Kill what became ours when a supervisor was killed; elsewhere a namespace's end does it."""
        if not isolation.mounts():
            from pybuild.executor.zygote.chroot import family

            family.end_descendants([child.pid for child in self._living.values()])


def complain(error: BaseException) -> None:
    """Write to standard error where a process's own code failed, before it ends."""
    text = f"{type(error).__name__}: {error}\n{worker.where(error)}\n"
    os.write(2, text.encode("utf-8", "surrogateescape"))


def channel_of(fd: int) -> _socket.socket:
    """Return the socket of a job."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
    channel.setblocking(True)
    return channel
