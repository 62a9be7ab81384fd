"""The spawner: forks the monitors of a store's containers, warm, and so for a quarter of a millisecond [MON-4].

It enters the rung of isolation once, as a zygote does, and is the process that monitors and what they
lose come back to. A command starts it when it needs one; it leaves when no container runs any more.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import marshal
import os
import select
import struct
import time

from pybuild.containers import keeping
from pybuild.containers.keeping import Adopted
from pybuild.containers.lines import MESSAGE_BYTES
from pybuild.containers.order import ContainerOrder, StreamAttachment, accept, of_other_version
from pybuild.containers.state import STATUS_UNKNOWN
from pybuild.executor.trees import storeform
from pybuild.executor.zygote import cgroups, isolation, procstatus, syscalls, worker
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.executor.zygote.hierarchies import hierarchies
from pybuild.model.border import Misfit, unpacked
from pybuild.networks import pod, tidying

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from typing import NoReturn
else:
    import _signal as signal  # the C part; signal.py imports enum

_IDLE_MS = 3_000
_RESTS = 2
_AGAIN_MS = 1_000
_PAUSE_S = 0.2
_LINE, _ORPHAN, _MONITOR = "line", "orphan", "monitor"
_MOST_FDS = 250  # the kernel sends no more at once
_SIGHUP, _SIGINT, _SIGTERM = 1, 2, 15
_NO_PROCESS = Fault(
    ENVIRONMENT,
    "the container runs, but no process can be made to watch it",
    (
        "this machine is short of processes, memory or open files: the log of the spawner says of which",
    ),
)


def main(listener_fd: int, lock_fd: int, rootless: bool | None) -> NoReturn:
    """Serve until nothing runs.

    Args:
        listener_fd: the socket that commands connect to, bound and listening.
        lock_fd: the open lock file; whoever holds it alone may begin or end a spawner.
    """
    for fd in (listener_fd, lock_fd):
        os.set_inheritable(fd, False)
    os.umask(0o022)
    for number in (_SIGHUP, _SIGINT, _SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, listener_fd)
    listener.setblocking(False)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    refusal: Fault | None = None
    try:
        isolation.enter(rootless, _pod_process(lock_fd))
        root = os.path.dirname(_folder_of(lock_fd))
        is_known = os.path.lexists(os.path.join(root, storeform.NAME))
        problem = storeform.difference(root, userxattr=isolation.uses_userxattr())
        if is_known and problem:
            refusal = Fault(ENVIRONMENT, problem, storeform.HINTS)
    except Fault as fault:
        refusal = fault
    except OSError as error:
        refusal = Fault(ENVIRONMENT, describe_os_error(error, "cannot isolate containers"))
    worker.preload("pybuild.containers.dozing:become_monitor")
    worker.preload("pybuild.executor.zygote.sandbox:become_step")
    worker.preload("pybuild.executor.zygote.joining:become_joined")
    hierarchies()  # looked for once: what they are is the same for all of our children
    cgroups.default_pids()
    procstatus.pidfds_tell_codes()
    gc.collect()
    gc.freeze()  # So that a child's first collection does not copy every page we share with it.
    root = os.path.dirname(_folder_of(lock_fd))
    spawner = _Spawner(listener, lock_fd, refusal)
    spawner.serve()
    # Another may begin while networks are taken out of the kernel: they have a lock of their own.
    listener.close()
    os.close(lock_fd)
    _tidy_networks(root, spawner.bridges)


def _tidy_networks(root: str, bridges: frozenset[tuple[str, str]]) -> NoReturn:
    """Leave no network in the kernel that nobody is on; end."""
    try:
        tidying.tidy(os.path.join(root, "networks"), bridges)
    except (OSError, Fault) as error:
        os.write(2, f"networks are left: {error}\n".encode())
    finally:
        os._exit(0)


def _pod_process(lock_fd: int) -> int:
    """Return a process of the store's pod, whose user namespace has the networks; 0: there is none."""
    root = os.path.dirname(_folder_of(lock_fd))
    return pod.process(os.path.join(root, "networks"))


def _folder_of(lock_fd: int) -> str:
    """Return the directory of the store's containers."""
    return os.path.dirname(os.readlink(f"/proc/self/fd/{lock_fd}"))


class _Monitor:
    """A monitor that lives, and what its container would need of another.

    Attributes:
        line: to it. *pid* is its own number.
        first: the container's first process, *fds* its descriptors by name; 0 and none until it runs.
        status: how that has ended, if it was our child and has.
        restarts: that has ended, and the container is to run again.
        problem: why it is followed by no other, as was written last.
    """

    def __init__(self, pid: int, order: ContainerOrder, line: _socket.socket) -> None:
        self.pid = pid
        self.order = order
        self.line = line
        self.first = 0
        self.fds: dict[str, int] = {}
        self.status: int | None = None
        self.restarts = False
        self.problem = ""

    def let_go(self) -> None:
        self.first = 0
        self.let_go_but(frozenset())

    def let_go_but(self, names: frozenset[str]) -> None:
        syscalls.close_quietly(*(fd for name, fd in self.fds.items() if name not in names))
        self.fds = {name: fd for name, fd in self.fds.items() if name in names}


class _Spawner:
    def __init__(self, listener: _socket.socket, lock_fd: int, refusal: Fault | None) -> None:
        self._listener = listener
        self._lock_fd = lock_fd
        self._refusal = refusal
        self._poller = select.poll()
        self._poller.register(listener.fileno(), select.POLLIN)
        self._monitors: dict[int, _Monitor] = {}  # by pidfd
        self._lines: dict[int, _Monitor] = {}
        self._orphans: dict[int, _Monitor] = {}
        """Those of adopted first processes, which are our children now, by pidfd."""
        self._orphan_pids: dict[int, int] = {}
        """The numbers of these, whatever their monitors say meanwhile."""
        self._unfollowed: list[_Monitor] = []
        """Those that are gone, and that no process could be made to follow yet."""
        self.bridges: frozenset[tuple[str, str]] = frozenset()
        self._common = [fd for fd in _open_fds() if fd not in (listener.fileno(), lock_fd)]
        """The descriptors that children have, too."""
        self._rests_due = 0
        """How many rests are still to be used: in one networks are tidied, in the next strays reaped."""

    def serve(self) -> None:
        while True:
            rests = not self._monitors or self._rests_due
            wait_ms = _IDLE_MS if rests else None
            ready = self._poller.poll(_AGAIN_MS if self._unfollowed else wait_ms)
            if self._unfollowed:
                self._follow_again()
            elif not ready:
                if not self._monitors and self._may_leave():
                    return
                self._use_rest()
            owners = [(fd, self._owner(fd)) for fd, _ in ready]
            for fd, owner in owners:
                if fd == self._listener.fileno():
                    self._accept()
                elif owner is None or owner != self._owner(fd):
                    pass  # closed meanwhile, and its number perhaps another's, who has said nothing
                elif owner[0] == _LINE:
                    self._hear(owner[1])
                elif owner[0] == _ORPHAN:
                    self._reap_orphan(fd)
                else:
                    self._reap(fd)

    def _owner(self, fd: int) -> tuple[str, _Monitor] | None:
        if fd in self._lines:
            return _LINE, self._lines[fd]
        if fd in self._orphans:
            return _ORPHAN, self._orphans[fd]
        return (_MONITOR, self._monitors[fd]) if fd in self._monitors else None

    def _may_leave(self) -> bool:
        """Whether nobody is about to ask for something: who does holds the lock meanwhile."""
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if self._poller.poll(0):
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            return False
        return True

    def _use_rest(self) -> None:
        """Have networks tidied by another process, since containers may be started meanwhile."""
        self._reap_strays()
        if self._rests_due == _RESTS and syscalls.clone3(0)[0] == 0:
            root = os.path.dirname(_folder_of(self._lock_fd))
            self._listener.close()
            os.close(self._lock_fd)
            _tidy_networks(root, self.bridges)
        self._rests_due = max(0, self._rests_due - 1)

    # --- commands ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            answer = accept(self._listener)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: who waits would be seen again and again
            time.sleep(_PAUSE_S)
            return
        try:
            self._take(answer)
        finally:
            answer.close()

    def _take(self, answer: _socket.socket) -> None:
        answer.settimeout(5.0)
        space = _socket.CMSG_SPACE(_MOST_FDS * 4)
        fds: list[int] = []
        try:
            data, rights, _, _ = answer.recvmsg(MESSAGE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
            for _, _, packed in rights:
                fds += struct.unpack(f"={len(packed) // 4}i", packed[: len(packed) // 4 * 4])
            if not data or not fds:
                return
            word, order, more = marshal.loads(data)
            if self._refusal is not None:
                answer.send(marshal.dumps(worker.fault_message(self._refusal)))
            elif word == "adopt":
                self._adopt(unpacked(order), fds[0], answer, Adopted(more, {}))
            else:
                taken: ContainerOrder = unpacked(order)
                if taken.networks is not None:
                    self.bridges |= tidying.bridges_of(taken.networks.folder)
                self._fork(taken, fds, answer, [unpacked(one) for one in more], None)
        except OSError as error:
            fault = Fault(ENVIRONMENT, describe_os_error(error, "cannot start a monitor"))
            self._refuse(answer, fault)
        except (Misfit, ValueError, TypeError):  # those that run are not to pay for it
            self._refuse(answer, of_other_version())
        finally:
            syscalls.close_quietly(*fds)

    def _refuse(self, answer: _socket.socket, fault: Fault) -> None:
        try:
            answer.send(marshal.dumps(worker.fault_message(fault)))
        except OSError:
            pass  # who asked is gone

    def _adopt(
        self, order: ContainerOrder, home: int, answer: _socket.socket, adopted: Adopted
    ) -> None:
        """Have a container watched again whose monitor was killed, unless one of ours is about to."""
        self._follow_again()
        if any(known.order.id == order.id for known in self._monitors.values()):
            answer.send(marshal.dumps(("started", [])))
            return
        if any(known.order.id == order.id for known in self._unfollowed):
            self._refuse(answer, _NO_PROCESS)
            return
        monitor = self._fork(order, [home], answer, (), adopted)
        monitor.first = adopted.pid
        self._watch_orphan(monitor)

    def _fork(
        self,
        order: ContainerOrder,
        fds: list[int],
        answer: _socket.socket | None,
        attachments: Sequence[StreamAttachment],
        adopted: Adopted | None,
    ) -> _Monitor:
        ours, theirs = keeping.pair()
        # Not os.fork: what Python does there copies 0.7 MB of what a monitor could share with us.
        pid, pidfd = syscalls.clone3(0)
        if pid == 0:
            try:
                from pybuild.containers.dozing import become_monitor

                kept = {*self._common, *fds, theirs.fileno()}
                kept |= set() if answer is None else {answer.fileno()}
                kept |= set() if adopted is None else set(adopted.fds.values())
                _close_all_but(kept)
                attached = [
                    (_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd), attachment)
                    for fd, attachment in zip(fds[1:], attachments, strict=True)
                ]
                become_monitor(
                    order, fds[0], answer, keeping.SpawnerLine(theirs), attached, adopted
                )
            except BaseException as error:  # noqa: BLE001 - must not unwind into the spawner's loop
                os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
            finally:
                os._exit(1)
        theirs.close()
        monitor = _Monitor(pid, order, ours)
        self._monitors[pidfd] = monitor
        self._lines[ours.fileno()] = monitor
        for fd in (pidfd, ours.fileno()):
            self._poller.register(fd, select.POLLIN)
        return monitor

    # --- monitors ---------------------------------------------------------------------------------

    def _hear(self, monitor: _Monitor) -> bool:
        """Keep what a monitor hands over; False: it says nothing any more."""
        known = keeping.receive(monitor.line)
        if known is None:
            fd = monitor.line.fileno()
            if fd in self._lines:
                self._poller.unregister(fd)
                del self._lines[fd]
            return False
        message, fds = known
        before = monitor.first
        monitor.let_go()
        monitor.restarts = message[0] == "restart"
        if message[0] in ("keep", "doze"):
            word, first, names = message
            monitor.first = first or before
            monitor.status = monitor.status if monitor.first == before else None
            monitor.fds = dict(zip(names, fds, strict=True))
            if word == "doze":
                self._have_sleep(monitor)
        return True

    def _have_sleep(self, before: _Monitor) -> None:
        """Have another monitor sleep in place of one that is about to end."""
        is_followed = self._follow(before, dozes=True)
        if is_followed:
            before.let_go()
        else:  # it goes on, and has the rest itself
            before.let_go_but(frozenset(filter(keeping.is_kept, before.fds)))
        try:
            before.line.send(marshal.dumps(("followed", is_followed)))
        except OSError:
            pass  # it was killed, and is followed by the sleeping one, or as others are

    def _reap(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        monitor = self._monitors.pop(pidfd)
        status = os.waitpid(monitor.pid, 0)[1]
        os.close(pidfd)
        monitor.line.setblocking(False)
        while monitor.line.fileno() in self._lines and self._hear(monitor):
            pass  # what it said last
        monitor.line.close()
        if status == 0 or not (monitor.first or monitor.restarts) or self._follow(monitor):
            monitor.let_go()
        else:
            self._watch_orphan(monitor)
            self._unfollowed.append(monitor)
        self._rests_due = _RESTS
        self._reap_strays()

    def _follow_again(self) -> None:
        """Try once more to have those followed that no process could be made for."""
        left = self._unfollowed
        self._unfollowed = []
        for monitor in left:
            if self._follow(monitor):
                monitor.let_go()
            else:
                self._unfollowed.append(monitor)

    def _follow(self, before: _Monitor, *, dozes: bool = False) -> bool:
        """Fork another monitor for a container whose own is gone; its processes are ours now [MON-6].

        False: there can be none at present. That of one which *dozes* still is there, and waits for it.
        """
        home = -1
        try:
            home = os.open(
                f"{before.order.root}/containers/{before.order.id}", os.O_RDONLY | os.O_CLOEXEC
            )
            adopted = Adopted(before.first, before.fds, before.status, dozes=dozes)
            monitor = self._fork(before.order, [home], None, (), adopted)
        except FileNotFoundError:
            return True  # it was removed
        except OSError as error:
            text = describe_os_error(error, f"container {before.order.id[:12]} has no monitor")
            if text != before.problem:
                os.write(2, f"{text}\n".encode())
            before.problem = text
            return False
        finally:
            syscalls.close_quietly(home)
        kept = {name: fd for name, fd in before.fds.items() if keeping.is_kept(name)}
        before.fds = {name: fd for name, fd in before.fds.items() if name not in kept}
        monitor.first, monitor.fds, monitor.status = before.first, kept, before.status
        monitor.restarts = before.restarts
        self._watch_orphan(monitor)
        return True

    def _watch_orphan(self, monitor: _Monitor) -> None:
        """Watch a first process that its monitor cannot wait for."""
        if monitor.status is not None or not monitor.first:
            return
        for pidfd, pid in self._orphan_pids.items():
            if pid == monitor.first:  # the monitor before had adopted it, too
                self._orphans[pidfd] = monitor
                return
        try:
            pidfd = os.pidfd_open(monitor.first)
        except OSError:
            return  # it is gone, or no descriptor is left: its monitor sees its end, too
        self._orphans[pidfd] = monitor
        self._orphan_pids[pidfd] = monitor.first
        self._poller.register(pidfd, select.POLLIN)

    def _reap_orphan(self, pidfd: int) -> None:
        """Tell the monitor that adopted it how a first process has ended."""
        self._poller.unregister(pidfd)
        monitor, pid = self._orphans.pop(pidfd), self._orphan_pids.pop(pidfd)
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            monitor.status = 128 - code if code < 0 else code
        except ChildProcessError:  # it is somebody else's, or still that of a monitor about to end
            known = procstatus.exit_code(pidfd)
            monitor.status = STATUS_UNKNOWN if known is None else known
        os.close(pidfd)
        try:
            monitor.line.send(marshal.dumps(("ended", monitor.status)))
        except OSError:
            pass  # it is gone, too; the next one hears it

    def _reap_strays(self) -> None:
        """Let go of what a monitor that was killed has left: it became ours, and has ended."""
        known = (*self._monitors.values(), *self._unfollowed)
        living = {pid for one in known for pid in (one.pid, one.first)}
        living |= set(self._orphan_pids.values())
        try:
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in living:
                    return  # a monitor's end is told by its pidfd, which has the rest of them reaped
                os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            return


def _open_fds() -> list[int]:
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    return [fd for fd in fds if os.path.lexists(f"/proc/self/fd/{fd}")]  # without the listing's own


def _close_all_but(kept: set[int]) -> None:
    """Close what is open; the objects that have the descriptors are not used any more."""
    low = 0
    try:
        for fd in (*sorted(kept), syscalls.MOST_FD + 1):
            if low < fd:
                syscalls.close_range(low, fd - 1)
            low = fd + 1
    except OSError:  # Linux before 5.9
        syscalls.close_quietly(*(fd for fd in _open_fds() if fd not in kept))
