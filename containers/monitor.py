"""The monitor of one container: its first process's parent, for as long as that runs [MON-5].

One poll over pipes, pidfds and sockets; no event loop's library, no threads. It holds the container's
lock, writes its log and its state, and does what commands ask over its socket.
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import select
import struct
import time
from functools import partial

from pybuild.containers.log import STREAMS, LogFile
from pybuild.containers.order import LOCK, MESSAGE_BYTES, SOCKET, ContainerOrder, accept
from pybuild.containers.state import EXITED, RUNNING, ContainerState, write_state
from pybuild.executor.steps.spec import StepExit
from pybuild.executor.zygote import isolation, syscalls, wire, worker
from pybuild.executor.zygote.children import REMOVE_AGAIN_MS, Children
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.model.border import packed
from pybuild.networks.helper import Helper
from pybuild.networks.rtnetlink import Inside, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_CONTAINER = "container"
_SERVICE = "service"
_ANSWER_CALLS = "pybuild.executor.zygote.socketcalls:answer_all"
_SIGKILL = 9
_BACKLOG = 128
_PIECE_BYTES = 1 << 16


def become_monitor(order: ContainerOrder, home: int, answer: _socket.socket) -> NoReturn:
    """Run *order* to its end; *answer* hears that it has started, or why not.

    Args:
        home: the container's directory, open.
    """
    os.setsid()
    monitor: _Monitor | None = None
    try:
        monitor = _Monitor(order, home, answer)
        monitor.start()
        monitor.serve()
    except (OSError, Fault) as error:
        _send(answer, worker.fault_message(error))
        if monitor is not None:
            monitor.children.kill_all()
        os._exit(1)
    os._exit(0)


class _Monitor:
    def __init__(self, order: ContainerOrder, home: int, answer: _socket.socket) -> None:
        self._order = order
        self._home = home
        self._answer: _socket.socket | None = answer
        self._lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=home)
        _take(self._lock)
        self._poller = select.poll()
        self._ready: dict[int, Callable[[], None]] = {}
        name = f"container-{order.id[:12]}"
        self.children = Children(self._poller, name, self._ended, self._leave)
        self._log = LogFile(home)
        self._clients: dict[int, _socket.socket] = {}
        self._messages = wire.Reassembler()
        self._warnings: list[str] = []
        self._fault: list[Any] | None = None
        self._is_ready = False
        self._state = ContainerState()
        self._exit: StepExit | None = None
        self._kill_at: float | None = None
        self._handed: list[int] = []
        self._streams: set[int] = set()
        self._is_talking = True
        self._helper: Helper | None = None
        self._listener = self._listen()

    def _listen(self) -> _socket.socket:
        """Take calls by the name in the container's directory, however long its path is."""
        os.fchdir(self._home)
        try:
            os.unlink(SOCKET)
        except FileNotFoundError:
            pass
        listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        listener.bind(SOCKET)
        os.chdir("/")  # where a zygote is: paths are looked up from there
        listener.listen(_BACKLOG)
        self._watch(listener.fileno(), self._accept)
        return listener

    def _watch(self, fd: int, ready: Callable[[], None]) -> None:
        self._ready[fd] = ready
        self._poller.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        self._poller.unregister(fd)
        del self._ready[fd]

    # --- start ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the container's first process.

        Raises:
            OSError, Fault: there is none.
        """
        step = self._order.step
        _make_empty(step.work)
        self._channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._watch(self._channel.fileno(), self._hear)
        fds = [theirs.detach()]
        for stream in STREAMS:
            read_end, write_end = os.pipe()
            os.set_blocking(read_end, False)
            self._streams.add(read_end)
            self._watch(read_end, partial(self._read, read_end, stream))
            fds.append(write_end)
        copied = not (overlay_works_in(step.upper) or isolation.records())
        namespace = namespace_of(self._order.joined)
        with Inside(namespace):
            self.children.start_step(_CONTAINER, step.start(), fds, copied=copied)
        syscalls.close_quietly(*[fd for fd in (namespace,) if fd >= 0])
        self._pid = self.children.pid(_CONTAINER)  # it may have ended when it is first heard of
        if self._order.networks is not None:
            self._helper = Helper(self._order.networks, self._pid, self._leave)
            self._warnings += self._helper.warnings
            step = step._replace(
                hosts=self._helper.hosts.encode(), resolv_conf=self._helper.resolv_conf.encode()
            )
        self._channel.sendall(wire.frame(packed(step)))

    def _leave(self) -> None:
        """Let go of what is ours alone, in a new process."""
        self._listener.close()
        for client in self._clients.values():
            client.close()
        if self._answer is not None:
            self._answer.close()
        mine = set(self._ready) | set(self.children.pidfds()) | set(self._handed)
        syscalls.close_quietly(*mine, self._lock, self._home)

    def _hear(self) -> None:
        """Take what the container's process says before it becomes its program."""
        space = _socket.CMSG_SPACE(wire.MOST_DESCRIPTORS * 4)
        data, rights, _, _ = self._channel.recvmsg(_PIECE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
        for _, _, numbers in rights:
            size = len(numbers) // 4
            self._handed += struct.unpack(f"={size}i", numbers[: size * 4])
        if not data:
            self._is_talking = False
            self._forget(self._channel.fileno())
            self._channel.close()
            return
        for message in self._messages.feed(data):
            if message[0] == "warning":
                self._warnings.append(message[1])
            elif message[0] == "fault":
                self._fault = list(message)
            elif message[0] == "ready":
                self._begin(message[1:])

    def _begin(self, names: tuple[str, ...]) -> None:
        if "listener" in names:
            listener = self._handed.pop(0)
            self._watch(listener, partial(self._serve_calls, listener))
        syscalls.close_quietly(*self._handed)  # what others may reach is sealed for layers alone
        self._handed.clear()
        self._is_ready = True
        self._state = ContainerState(RUNNING, self._pid, self._order.boot, started=time.time_ns())
        write_state(self._home, self._state)
        if self._answer is not None:
            _send(self._answer, ("started", self._warnings))
            self._answer.close()
            self._answer = None

    def _serve_calls(self, listener: int) -> None:
        """Have socket calls of 32-bit programs answered; see `executor.zygote.socketcalls`."""
        self._forget(listener)
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        # The container's end makes it readable, too, and is no call.
        if not any(event & select.POLLIN for _, event in poller.poll(0)):
            os.close(listener)
            return
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        fds = [theirs.detach(), listener]
        try:
            self.children.start_call(_SERVICE, _ANSWER_CALLS, fds)
            ours.sendall(wire.frame((_ANSWER_CALLS, (), {}, False)))
        except (OSError, Fault):
            syscalls.close_quietly(*fds)  # without whoever answers, calls fail
        finally:
            ours.close()

    # --- life -------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Return when the container has ended and everybody who waits was told."""
        while self._exit is None or self._streams or self._is_talking:
            for fd, _ in self._poller.poll(self._patience()):
                if fd in self._ready:
                    self._ready[fd]()
                elif fd in self._clients:
                    self._serve_client(fd)
                else:
                    self.children.reap(fd)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_at = None
                self.children.kill(_CONTAINER, _SIGKILL)
        self._finish(self._exit)

    def _patience(self) -> int | None:
        """Return the milliseconds until something is to be done by itself; None: nothing is."""
        if not self.children.tidy():
            return REMOVE_AGAIN_MS
        if self._kill_at is None:
            return None
        return max(0, int((self._kill_at - time.monotonic()) * 1000) + 1)

    def _read(self, fd: int, stream: str) -> None:
        data = os.read(fd, _PIECE_BYTES)
        if not data:
            self._forget(fd)
            self._streams.remove(fd)
            os.close(fd)
            return
        try:
            self._log.write(stream, data)
        except OSError:
            pass  # on a full disk output is lost, as in docker; the container goes on

    def _ended(self, job: str, ended: StepExit) -> None:
        if job == _CONTAINER:
            self._exit = ended

    def _finish(self, ended: StepExit) -> None:
        if self._helper is not None:
            self._helper.wait()
        try:
            self._log.end()
        except OSError:
            pass  # as above
        if self._is_ready:
            self._state = self._state._replace(
                status=EXITED,
                pid=0,
                finished=time.time_ns(),
                exit_code=ended.status,
                oom_killed=ended.oom_killed,
            )
            write_state(self._home, self._state)
        elif self._answer is not None:
            fault = self._fault or worker.fault_message(
                Fault(ENVIRONMENT, f"the process ended while it was set up ({ended.status})")
            )
            _send(self._answer, tuple(fault))
        try:
            os.unlink(SOCKET, dir_fd=self._home)
        except FileNotFoundError:
            pass
        for client in self._clients.values():
            _send(client, ("exited", ended.status))
        self.children.kill_all()

    # --- commands ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        client = accept(self._listener)
        client.setblocking(False)
        self._clients[client.fileno()] = client
        self._poller.register(client.fileno(), select.POLLIN)

    def _serve_client(self, fd: int) -> None:
        client = self._clients[fd]
        try:
            data = client.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._poller.unregister(fd)
            del self._clients[fd]
            client.close()
            return
        message = marshal.loads(data)
        if message[0] == "kill":
            self.children.kill(_CONTAINER, message[1])
        elif message[0] == "stop":
            self.children.kill(_CONTAINER, message[1])
            if message[2] >= 0:
                self._kill_at = time.monotonic() + message[2]


def _take(lock: int) -> None:
    """Take the container's lock, past those who only look whether somebody has it.

    Raises:
        Fault: user; another monitor has it.
    """
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fault(USER, "the container is running already") from None
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(0.001)  # who looks has it for a moment


def _make_empty(work: str) -> None:
    """Have an empty work directory, whatever an earlier run has left in it: its mounts are gone."""
    for folder, directories, files in os.walk(work, topdown=False):
        for name in files:
            os.unlink(f"{folder}/{name}")
        for name in directories:
            path = f"{folder}/{name}"
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
    try:
        os.mkdir(work, 0o700)
    except FileExistsError:
        pass


def _send(client: _socket.socket, message: tuple[Any, ...]) -> None:
    try:
        client.send(marshal.dumps(message))
    except OSError:
        pass  # who asked is gone
