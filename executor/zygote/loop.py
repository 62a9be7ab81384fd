"""The zygote's life: take jobs from the main process, fork a child for each, tell when it ended.

One thread, one poll over the control socket and a pidfd per child, so any number of jobs run at
once. When the control socket ends, the main process is gone: every child is killed, and the end of
their pid and mount namespaces takes everything else along.
"""

from __future__ import annotations

import _socket
import gc
import marshal
import os
import select
import struct
import time

from pybuild.executor.steps.spec import StepExit
from pybuild.executor.zygote import cgroups, isolation, procstatus, rootfs, syscalls, wire, worker
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.executor.zygote.recorder.keeper import Keeper, Link
from pybuild.executor.zygote.spare import Spare, Wish
from pybuild.executor.zygote.stage import Anchor
from pybuild.executor.zygote.usernet import Usernet
from pybuild.model.border import packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn

    from pybuild.executor.steps.spec import StepKind, StepStart
else:
    import _signal as signal  # the C part; signal.py imports enum

_STEP = "pybuild.executor.zygote.sandbox:become_step"
_MAX_FDS = 253  # SCM_MAX_FD
_REMOVE_AGAIN_MS = 20
_SIGHUP, _SIGINT, _SIGQUIT, _SIGKILL, _SIGTERM = 1, 2, 3, 9, 15
_ENDING = (_SIGTERM, _SIGINT, _SIGHUP, _SIGQUIT)


def main(control_fd: int, watch_fd: int, rootless: bool | None, foreseen: str) -> NoReturn:
    """Run until the main process closes its end of the control socket, or ends.

    Args:
        watch_fd: a pidfd of the main process.
        foreseen: a module to import before the first job asks for it.
    """
    os.set_inheritable(control_fd, False)
    os.set_inheritable(watch_fd, False)
    os.umask(0o022)
    control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, control_fd)
    control.setblocking(True)
    signal.signal(_SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process to judge.
    try:
        rung, detail = isolation.enter(rootless)
    except Fault as fault:
        control.send(marshal.dumps(("dead", fault.kind, fault.message, list(fault.hints))))
        os._exit(0)
    except OSError as error:
        message = f"cannot isolate steps: {error.strerror}"
        control.send(marshal.dumps(("dead", ENVIRONMENT, message, [])))
        os._exit(0)
    control.send(marshal.dumps(("ready", rung, detail)))
    worker.preload(foreseen)
    gc.collect()
    gc.freeze()  # So that a child's first collection does not copy every page we share with it.
    zygote = _Zygote(control, watch_fd)
    try:
        zygote.serve()
    finally:
        zygote.kill_all()
    os._exit(0)


class _Child:
    """A job's process.

    Attributes:
        oom_kills: of the whole machine before it, -1: unknown or not asked for.
        leaf: its cgroups; None for a call.
        work: a step's work directory; "" for a call.
        net: its own network, if it has one.
    """

    def __init__(
        self, job: str, pid: int, leaf: cgroups.Leaf | None, net: Usernet, work: str
    ) -> None:
        self.job = job
        self.work = work
        self.net = net
        self.pid = pid
        self.leaf = leaf
        self.oom_kills = cgroups.oom_kills() if leaf is not None and not leaf.places else -1
        self.start = time.monotonic()


class _Zygote:
    def __init__(self, control: _socket.socket, watch_fd: int) -> None:
        self.control = control
        self.watch_fd = watch_fd
        # Containers that share a cgroup number their processes alike.
        self.name = f"{os.getpid()}-{os.stat('/proc/self/ns/pid').st_ino}"
        self.self_pidfd = os.pidfd_open(os.getpid())
        self.poller = select.poll()
        self.poller.register(control.fileno(), select.POLLIN)
        self.poller.register(watch_fd, select.POLLIN)
        self.children: dict[int, _Child] = {}  # by pidfd
        self.by_job: dict[str, int] = {}
        self.leaving: list[cgroups.Leaf] = []  # cgroups that could not be removed at once
        self.wish = Wish()
        self.spare: Spare | None = None
        self.spares = 0
        self.anchor = Anchor()
        self.recorders = Keeper(self._say, lambda job: self._kill(job, _SIGKILL))

    def serve(self) -> None:
        while True:
            for fd, _ in self.poller.poll(_REMOVE_AGAIN_MS if self.leaving else None):
                if fd == self.watch_fd:
                    return
                if fd != self.control.fileno():
                    self._reap(fd)
                elif not self._receive():
                    return
            if self.leaving:
                self.leaving = [leaf for leaf in self.leaving if not leaf.remove()]
            self._care_for_spare()

    def kill_all(self) -> None:
        self._end_spare()
        for pidfd in self.children:
            try:
                syscalls.pidfd_send_signal(pidfd, _SIGKILL)
            except OSError:
                pass
        for child in self.children.values():
            try:
                os.waitpid(child.pid, 0)
            except OSError:
                pass
            child.net.stop()
            if child.leaf is not None:
                self.leaving.append(child.leaf)
        self.children.clear()
        self._end_strays()
        self.recorders.wait_all()
        for _ in range(50):
            self.leaving = [leaf for leaf in self.leaving if not leaf.remove()]
            if not self.leaving:
                break
            time.sleep(_REMOVE_AGAIN_MS / 1000)

    def _end_strays(self) -> None:
        """Kill what became ours when a supervisor was killed; elsewhere a namespace's end does it."""
        if not isolation.mounts():
            from pybuild.executor.zygote.chroot import family

            family.end_descendants([child.pid for child in self.children.values()])

    def _receive(self) -> bool:
        """Handle one control message; False: the main process is gone."""
        try:
            data, fds = _receive_with_fds(self.control)
        except ConnectionResetError:
            return False
        if not data:
            return False
        message = marshal.loads(data)
        if message[0] == "start":
            _, job, start = message
            self._start(job, unpacked(start), fds)
        elif message[0] == "kill":
            _, job, number = message
            self._kill(job, number)
        elif not self.children:
            self.wish.forget()
            if self.spare is not None:
                self.spare.dismiss()  # its end takes a while, and others may want something
        return True

    def _start(self, job: str, start: StepStart | str, fds: list[int]) -> None:
        """Start a job: a step, or a call of the function of this name."""
        leaf: cgroups.Leaf | None = None
        net = Usernet(False)
        copied = False
        work = ""
        link = Link(not isinstance(start, str) and isolation.records())
        try:
            if isinstance(start, str):
                worker.preload(start)
                pid = os.fork()
                pidfd = os.pidfd_open(pid) if pid else -1
            else:
                from pybuild.executor.zygote import setup

                worker.preload(_STEP)
                kind, work = start.kind, start.work
                # Where one step of a store has an overlay, all have.
                known = bool(kind.store) and self._fits(kind)
                copied = not (known or overlay_works_in(start.upper) or isolation.records())
                usual = kind.usual and not copied and not link.ends
                self.wish.note(kind, usual=usual)
                if usual and self._use_spare(job, start, fds):
                    return
                net = Usernet(kind.network == "isolated" and isolation.mounts())
                leaf = cgroups.make(kind.limits, f"{self.name}-{job}")
                if copied:
                    pid = os.fork()
                    pidfd = os.pidfd_open(pid) if pid else -1
                else:
                    flags = setup.namespaces(kind.network)
                    pid, pidfd = syscalls.clone3(flags, cgroup_fd=leaf.into_fd)
        except (OSError, Fault) as error:
            if leaf is not None and not leaf.remove():
                self.leaving.append(leaf)
            link.close()
            net.abandon()
            self._refuse(job, fds, error)
            return
        if pid == 0:
            self._in_child(leaf, fds, link, net, copied=copied)
        if copied:
            net.abandon()  # its supervisor has it
            net = Usernet(False)
        net.start(pid)
        syscalls.close_quietly(*fds)
        child = _Child(job, pid, leaf, net, work)
        self.children[pidfd] = child
        self.by_job[job] = pidfd
        self.poller.register(pidfd, select.POLLIN)
        if link.ends:
            self._start_recorder(job, link)

    def _care_for_spare(self) -> None:
        """Have the process that is wished for, once there is nothing else to do."""
        kind = self.wish.kind()
        if kind is None or self.poller.poll(0):
            return
        if self.spare is not None and self.spare.kind != kind:
            self._end_spare()
        if self.spare is None:
            self._make_spare(kind)

    def _make_spare(self, kind: StepKind) -> None:
        from pybuild.executor.zygote import setup

        worker.preload(_STEP)
        self.spares += 1
        try:
            leaf = cgroups.make(kind.limits, f"{self.name}-spare{self.spares}")
        except (OSError, Fault):
            self.wish.give_up(kind)
            return
        made = Spare(kind, leaf, self.anchor.hold(kind.store))
        try:
            flags = setup.namespaces(kind.network)
            made.pid, made.pidfd = syscalls.clone3(flags, cgroup_fd=leaf.into_fd)
        except OSError:
            self.wish.give_up(kind)
            self.leaving.append(leaf)
            return
        if made.pid == 0:
            self._stand_by(made)
        made.theirs.close()
        self.spare = made
        self.poller.register(made.pidfd, select.POLLIN)

    def _stand_by(self, made: Spare) -> NoReturn:
        try:
            self._leave_zygote(made.store_fd)
            signal.signal(_SIGINT, signal.SIG_DFL)
            made.ours.close()
            from pybuild.executor.zygote import sandbox

            sandbox.stand_by(made)
        except BaseException as error:  # noqa: BLE001 - must not unwind into the zygote's loop
            _complain(error)
        finally:
            os._exit(1)

    def _fits(self, kind: StepKind) -> bool:
        """Whether the process that waits is for such steps."""
        made = self.spare
        return made is not None and not made.is_dismissed and made.kind == kind

    def _use_spare(self, job: str, step: StepStart, fds: list[int]) -> bool:
        """Give the job to the process that waits for one, if it is of the kind."""
        made = self.spare
        if made is None or not self._fits(step.kind) or not made.is_alive():
            return False
        try:
            made.hand(fds)
        except OSError:
            return False  # its end is about to be told
        self.spare = None
        syscalls.close_quietly(*fds)
        child = _Child(job, made.pid, made.leaf, Usernet(False), step.work)
        self.children[made.pidfd] = child
        self.by_job[job] = made.pidfd
        return True

    def _end_spare(self) -> None:
        made, self.spare = self.spare, None
        if made is None:
            return
        self.poller.unregister(made.pidfd)
        made.ours.close()
        try:
            syscalls.pidfd_send_signal(made.pidfd, _SIGKILL)
            os.waitpid(made.pid, 0)
        except OSError:
            pass
        os.close(made.pidfd)
        if not made.leaf.remove():
            self.leaving.append(made.leaf)

    def _start_recorder(self, job: str, link: Link) -> None:
        try:
            pid = os.fork()
        except OSError:
            pid = -1  # The step finds nobody at the other end, says so and ends.
        if pid == 0:
            self._record(link)
        link.close()
        if pid > 0:
            self.poller.register(self.recorders.add(job, pid), select.POLLIN)

    def _record(self, link: Link) -> NoReturn:
        """Be a recorder; see there."""
        status = 1
        try:
            self._leave_zygote()
            from pybuild.executor.zygote.recorder import loop

            loop.record(link.for_recorder())
            status = 0
        except BaseException as error:  # noqa: BLE001 - must not unwind into the zygote's loop
            _complain(error)
        finally:
            os._exit(status)

    def _leave_zygote(self, *keep: int) -> None:
        """Let go of what is the zygote's, in a child, but for descriptors to *keep*."""
        die_with_parent()
        if _is_readable(self.self_pidfd):
            os._exit(1)  # The zygote died before the line above.
        # The other jobs' pidfds and the control socket are close-on-exec, but a worker does
        # not exec, and must not keep another zygote's death from being noticed.
        inherited = [self.control.detach(), self.watch_fd, self.self_pidfd]
        if self.anchor.fd not in keep:
            inherited.append(self.anchor.fd)
        if self.spare is not None:
            inherited += [self.spare.ours.detach(), self.spare.pidfd]
        syscalls.close_quietly(*inherited, *self.children, *self.recorders.pidfds())

    def _say(self, job: str, ended: StepExit) -> None:
        self.control.send(marshal.dumps(("exit", job, packed(ended))))

    def _refuse(self, job: str, fds: list[int], error: OSError | Fault) -> None:
        """Tell a job that has no process why."""
        channel = _channel(fds.pop(0))
        syscalls.close_quietly(*fds)
        if isinstance(error, OSError):
            error = Fault(
                ENVIRONMENT,
                describe_os_error(error, "cannot start a process"),
                ("raise the limit on processes (ulimit -u) or free memory",),
            )
        channel.send(wire.frame(worker.fault_message(error)))
        channel.close()
        self._say(job, StepExit(-1))

    def _in_child(
        self,
        leaf: cgroups.Leaf | None,
        fds: list[int],
        link: Link,
        net: Usernet,
        *,
        copied: bool,
    ) -> NoReturn:
        try:
            self._leave_zygote()
            signal.signal(_SIGINT, signal.SIG_DFL)
            channel = _channel(fds.pop(0))
            if leaf is None:
                worker.exit_after(channel, fds)
            else:
                from pybuild.executor.zygote import sandbox

                if copied:
                    from pybuild.executor.zygote.chroot import step

                    step.supervise(channel, fds, leaf, net)
                sandbox.become_step(channel, fds, leaf, link.for_step(), net)
        except BaseException as error:  # noqa: BLE001 - must not unwind into the zygote's loop
            _complain(error)
        finally:
            os._exit(1)

    def _kill(self, job: str, number: int) -> None:
        pidfd = self.by_job.get(job)
        if pidfd is None:
            return
        pid = self.children[pidfd].pid
        # The kernel does not deliver to a namespace's first process what it does not catch; to
        # wait out a grace time for that would be wasted.
        if number in _ENDING and not procstatus.catches(pid, number):
            number = _SIGTERM if procstatus.catches(pid, _SIGTERM) else _SIGKILL
        try:
            syscalls.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass

    def _reap(self, pidfd: int) -> None:
        if self.spare is not None and pidfd == self.spare.pidfd:
            if not self.spare.is_dismissed:
                self.wish.give_up(self.spare.kind)
            self._end_spare()
            return
        if pidfd not in self.children:
            self.poller.unregister(pidfd)
            self.recorders.reap(pidfd)
            return
        child = self.children.pop(pidfd)
        del self.by_job[child.job]
        self.poller.unregister(pidfd)
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
        ended = StepExit(code, seconds, rss, max(peak, 0), oom, pids_hit)
        self.recorders.report(child.job, ended)
        # Only now: who waits for the step's end does not wait for this.
        if child.work:
            rootfs.remove_work(child.work)
        if child.leaf is not None and not child.leaf.remove():
            self.leaving.append(child.leaf)


def _complain(error: BaseException) -> None:
    text = f"{type(error).__name__}: {error}\n{worker.where(error)}\n"
    os.write(2, text.encode("utf-8", "surrogateescape"))


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the zygote ends; forgotten when credentials change."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)


def _channel(fd: int) -> _socket.socket:
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
    channel.setblocking(True)
    return channel


def _is_readable(fd: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(0))


def _receive_with_fds(control: _socket.socket) -> tuple[bytes, list[int]]:
    space = _socket.CMSG_SPACE(_MAX_FDS * 4)
    data, ancillary, _, _ = control.recvmsg(wire.CONTROL_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"={len(payload) // 4}i", payload[: len(payload) // 4 * 4]))
    return data, fds
