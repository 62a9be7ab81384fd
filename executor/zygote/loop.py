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

from pybuild.executor.steps.spec import StepExit, StepJoin
from pybuild.executor.zygote import cgroups, isolation, syscalls, wire, worker
from pybuild.executor.zygote.children import (
    REMOVE_AGAIN_MS,
    Child,
    Children,
    channel_of,
    complain,
)
from pybuild.executor.zygote.connections import StepNetwork
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
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
_JOINED = "pybuild.executor.zygote.joining:become_joined"
_MAX_FDS = 253  # SCM_MAX_FD
_SIGINT, _SIGKILL = 2, 9


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
        zygote.end()
    os._exit(0)


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
        self.children = Children(self.poller, self.name, self._say, self._leave_zygote)
        self.wish = Wish()
        self.spare: Spare | None = None
        self.spares = 0
        self.anchor = Anchor()

    def serve(self) -> None:
        while True:
            for fd, _ in self.poller.poll(None if self.children.tidy() else REMOVE_AGAIN_MS):
                if fd == self.watch_fd:
                    return
                if self.spare is not None and fd == self.spare.pidfd:
                    self._lose_spare(self.spare)
                elif fd != self.control.fileno():
                    self.children.reap(fd)
                elif not self._receive():
                    return
            self._care_for_spare()

    def end(self) -> None:
        self._end_spare()
        self.children.kill_all()

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
            self.children.kill(job, number)
        elif message[0] == "connect":
            _, way, steps = message
            self.children.networks.make_ahead(unpacked(way), self.wish.at_once(steps))
        elif not self.children:
            self.wish.forget()
            self.children.networks.rest()
            if self.spare is not None:
                self.spare.dismiss()  # its end takes a while, and others may want something
        return True

    def _start(self, job: str, start: StepStart | StepJoin | str, fds: list[int]) -> None:
        """Start a job: a step, a process in one, or a call of the function of this name."""
        try:
            if isinstance(start, str):
                self.children.start_call(job, start, fds)
            elif isinstance(start, StepJoin):
                worker.preload(_JOINED)
                self.children.start_joined(job, start.job, fds)
            else:
                self._start_step(job, start, fds)
        except (OSError, Fault) as error:
            self._refuse(job, fds, error)

    def _start_step(self, job: str, step: StepStart, fds: list[int]) -> None:
        worker.preload(_STEP)
        # Where one step of a store has an overlay, all have.
        known = bool(step.kind.store) and self._fits(step.kind)
        copied = not (known or overlay_works_in(step.upper) or isolation.records())
        usual = step.kind.usual and not copied and not isolation.records()
        self.wish.note(step.kind, usual=usual)
        if not (usual and self._use_spare(job, step, fds)):
            self.children.start_step(job, step, fds, copied=copied)

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
        connected: StepNetwork | None = None
        try:
            connected = self.children.networks.take(kind.connecting)
            leaf = cgroups.make(kind.limits, f"{self.name}-spare{self.spares}")
        except (OSError, Fault):
            self.children.networks.give_back(connected)
            self.wish.give_up(kind)
            return
        made = Spare(kind, leaf, self.anchor.hold(kind.store), connected)
        try:
            flags = setup.namespaces(kind.network)
            made.pid, made.pidfd = syscalls.clone3(flags, cgroup_fd=leaf.into_fd)
        except OSError:
            self.wish.give_up(kind)
            self.children.networks.give_back(connected)
            self.children.retire(leaf)
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
            complain(error)
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
        child = Child(job, made.pid, made.leaf, Usernet(False), step.work, connected=made.connected)
        self.children.add(child, made.pidfd)
        return True

    def _lose_spare(self, made: Spare) -> None:
        if not made.is_dismissed:
            self.wish.give_up(made.kind)
        self._end_spare()

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
        self.children.networks.give_back(made.connected)
        self.children.retire(made.leaf)

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
            inherited += self.spare.connected.fds() if self.spare.connected else ()
        syscalls.close_quietly(*inherited, *self.children.fds())

    def _say(self, job: str, ended: StepExit) -> None:
        self.control.send(marshal.dumps(("exit", job, packed(ended))))

    def _refuse(self, job: str, fds: list[int], error: OSError | Fault) -> None:
        """Tell a job that has no process why."""
        channel = channel_of(fds.pop(0))
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


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the zygote ends; forgotten when credentials change."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, _SIGKILL)


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
