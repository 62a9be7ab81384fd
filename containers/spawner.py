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

from pybuild.containers.order import MESSAGE_BYTES, ContainerOrder, accept
from pybuild.executor.zygote import isolation, syscalls, worker
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.model.border import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal  # the C part; signal.py imports enum

_IDLE_MS = 3_000
_MOST_FDS = 4
_SIGHUP, _SIGINT, _SIGTERM = 1, 2, 15


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
        isolation.enter(rootless)
    except Fault as fault:
        refusal = fault
    except OSError as error:
        refusal = Fault(ENVIRONMENT, describe_os_error(error, "cannot isolate containers"))
    worker.preload("pybuild.containers.monitor:become_monitor")
    worker.preload("pybuild.executor.zygote.sandbox:become_step")
    gc.collect()
    gc.freeze()  # So that a child's first collection does not copy every page we share with it.
    _Spawner(listener, lock_fd, refusal).serve()
    os._exit(0)


class _Spawner:
    def __init__(self, listener: _socket.socket, lock_fd: int, refusal: Fault | None) -> None:
        self._listener = listener
        self._lock_fd = lock_fd
        self._refusal = refusal
        self._poller = select.poll()
        self._poller.register(listener.fileno(), select.POLLIN)
        self._monitors: dict[int, int] = {}  # process ids by pidfd

    def serve(self) -> None:
        while True:
            ready = self._poller.poll(None if self._monitors else _IDLE_MS)
            if not ready and self._may_leave():
                return
            for fd, _ in ready:
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._reap(fd)

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

    def _accept(self) -> None:
        try:
            answer = accept(self._listener)
        except (BlockingIOError, ConnectionAbortedError):
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
            if not data or len(fds) != 1:
                return
            _, order = marshal.loads(data)
            if self._refusal is not None:
                answer.send(marshal.dumps(worker.fault_message(self._refusal)))
                return
            self._fork(unpacked(order), fds[0], answer)
        except OSError as error:
            self._refuse(answer, error)
        finally:
            syscalls.close_quietly(*fds)

    def _refuse(self, answer: _socket.socket, error: OSError) -> None:
        fault = Fault(ENVIRONMENT, describe_os_error(error, "cannot start a monitor"))
        try:
            answer.send(marshal.dumps(worker.fault_message(fault)))
        except OSError:
            pass  # who asked is gone

    def _fork(self, order: ContainerOrder, home: int, answer: _socket.socket) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                from pybuild.containers.monitor import become_monitor

                self._listener.close()
                syscalls.close_quietly(self._lock_fd, *self._monitors)
                become_monitor(order, home, answer)
            except BaseException as error:  # noqa: BLE001 - must not unwind into the spawner's loop
                os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
            finally:
                os._exit(1)
        pidfd = os.pidfd_open(pid)
        self._monitors[pidfd] = pid
        self._poller.register(pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        os.waitpid(self._monitors.pop(pidfd), 0)
        os.close(pidfd)
        self._reap_strays()

    def _reap_strays(self) -> None:
        """Let go of what a monitor that was killed has left: it became ours, and has ended."""
        living = set(self._monitors.values())
        try:
            while True:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None or ended.si_pid in living:
                    return  # a monitor's end is told by its pidfd, which has the rest of them reaped
                os.waitpid(ended.si_pid, 0)
        except ChildProcessError:
            return
