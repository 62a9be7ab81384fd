"""The process beside a container that has networks of its own: it connects it, serves it, cleans up.

It is forked by the container's monitor and waits for the end of the container, not of the monitor: who
kills that one takes no name and no port from the container. Killed itself, it is followed by another,
which goes on with what the records say; where nobody follows, the next command that looks at networks
removes what is left. One that has had nothing to do for a while ends, too: the monitor has its
descriptors then, and starts another when one of them is ready, or the container has ended.

    to a helper     ("rest",)
    from it         ("connected", hosts, resolv_conf, warnings), or a fault, once
                    ("rests", names) + a descriptor for each: it ends; ("busy",)
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import select
import struct
from functools import partial

from pybuild.cache.disk.locks import locked
from pybuild.executor.zygote import procstatus, syscalls, worker
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.executor.zygote.usernet import NAME_SERVER
from pybuild.model.border import Misfit, unpacked
from pybuild.networks import apart, attaching, calling, carrying, hostfiles, pod, records, resolver
from pybuild.networks.directory import Directory
from pybuild.networks.events import Events
from pybuild.networks.insidefiles import rewrite
from pybuild.networks.linkedhosts import call_linked, linked_lines, sign, sign_off, unlink
from pybuild.networks.ports import HeldPort, accept, held_again
from pybuild.networks.records import Port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from pybuild.networks.attaching import Attachment
    from pybuild.networks.order import NetworkOrder

_OTHER_VERSION = Fault(
    ENVIRONMENT,
    "the container was started by another version of pybuild",
    ("start it again, then connect it",),
)
FIRST = "first"
"""The name of the container's own pidfd beside what a helper has left."""
_NOTHING: dict[str, int] = {}
_DIED = ("fault", "environment", "the process that connects the container ended", ())


LOCK, CALLS, UDP, TCP, PORT = "helper lock", "helper calls", "names udp", "names tcp", "port"
"""The names of what a helper leaves; that of a port has its words behind it."""
_MOST_PORTS = 32
_LINE_BYTES = 1 << 18


def is_left(name: str) -> bool:
    """Whether a descriptor of this name is what a helper has left."""
    return name in (LOCK, CALLS, UDP, TCP) or name.startswith(PORT + " ")


def wakes(name: str) -> bool:
    """Whether a helper is wanted when a descriptor of this name is ready."""
    return name != LOCK and not name.startswith(f"{PORT} sctp ")


def serve(
    channel: _socket.socket | None,
    line: _socket.socket,
    order: NetworkOrder,
    pid: int,
    left: Mapping[str, int],
) -> NoReturn:
    """Connect the container whose first process is *pid*, say so, and serve it until it ends.

    Args:
        channel: hears that it is connected, or why not. None: it is already, and this takes over when
            its helper is gone.
        line: the same, to the monitor, for as long as there is one.
        left: what a helper has left that rested; the container's process is not looked for where it has ended.
    """
    status = 1
    try:
        if pod.is_used():
            order = hostfiles.beyond_loopback(order, NAME_SERVER)
        watched = left[FIRST] if FIRST in left else -1 if left else os.pidfd_open(pid)
        lock = left[LOCK] if left else _only_one(order)
        devices: list[str] = []
        try:
            _serve_locked(channel, line, order, pid, watched, lock, devices, left)
        finally:
            os.unlink(_place(order))
            os.close(lock)
        # The monitor waits for our end, but nobody for that of devices: their names come only once.
        if devices and syscalls.clone3(0)[0] == 0:
            attaching.remove_devices(devices)
        status = 0
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        try:
            if channel is None:
                raise BrokenPipeError
            channel.send(marshal.dumps(worker.fault_message(error)))
        except OSError:
            os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
    finally:
        os._exit(status)


def _serve_locked(
    channel: _socket.socket | None,
    line: _socket.socket,
    order: NetworkOrder,
    pid: int,
    watched: int,
    lock: int,
    devices: list[str],
    left: Mapping[str, int],
) -> None:
    """Do it as the only helper of the container; *devices* gets the names of those that are left."""
    ended: list[bool] = []
    try:
        if channel is not None:
            made = apart.attach(order, pid)
            if pod.is_used():
                with locked(made.store.lock):
                    pod.enter(made.store)
        elif watched < 0 or _has_ended(watched):
            devices += attaching.detach(order.folder, order.container, pid)
            try:
                os.unlink(os.path.join(order.folder, records.CALLS, order.container))
            except FileNotFoundError:
                pass
            return
        else:
            made = attaching.take_over(order, pid, _ports_of(left) if left else None)
        if pod.is_used():
            pod.sign(lock)
    except OSError as error:
        raise attaching.problem(error) from error
    listener: _socket.socket | None = None
    try:
        if left:
            listener = _seqpacket(left[CALLS])
            made.questions = _questions_of(left)
        else:
            listener = calling.listen(order.folder, order.container)
        serving = _Serving(made, listener)
        serving.events.watch(watched, lambda: ended.append(True))
        serving.events.watch(line.fileno(), partial(_hear_monitor, line, serving, watched, lock))
        if channel is not None:
            hosts = hostfiles.hosts(order, made.places, linked_lines(made))
            resolv_conf = hostfiles.resolv_conf(order) if serving.answers else order.resolv_conf
            channel.send(marshal.dumps(("connected", hosts, resolv_conf, made.warnings)))
            channel = None
        sign(made)
        call_linked(made)
        while not ended:
            serving.events.turn()
    finally:
        if listener is not None:
            listener.close()
            os.unlink(os.path.join(order.folder, records.CALLS, order.container))
        sign_off(made)
        made.close()
        if ended or channel is not None:  # else it runs, connected, and another helper follows
            devices += attaching.detach(order.folder, order.container, pid)


def _hear_monitor(line: _socket.socket, serving: _Serving, watched: int, lock: int) -> None:
    """Rest, if the monitor says so and there is nothing to do: it has all that we have, and we end."""
    try:
        has_said = line.recv(_LINE_BYTES)
    except OSError:
        has_said = b""
    if not has_said:
        serving.events.forget(line.fileno())  # it was killed, or sleeps
        return
    left = {LOCK: lock, **serving.left()}
    most = _MOST_PORTS + len((LOCK, CALLS, UDP, TCP))
    if len(left) > most or not serving.events.is_idle_but({line.fileno(), watched, *left.values()}):
        line.send(marshal.dumps(("busy",)))
        return
    fds = struct.pack(f"={len(left)}i", *left.values())
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds)]
    line.sendmsg([marshal.dumps(("rests", list(left)))], rights)
    os._exit(0)


def _ports_of(left: Mapping[str, int]) -> list[HeldPort]:
    """Return the published ports among what a helper has left."""
    held: list[HeldPort] = []
    for name, fd in left.items():
        if name.startswith(PORT + " "):
            _, protocol, port, to_port, address = name.split(" ")
            held.append(held_again(Port(protocol, address, int(port), int(to_port)), fd))
    return held


def _questions_of(left: Mapping[str, int]) -> tuple[_socket.socket, _socket.socket] | None:
    """Return the sockets for names among what a helper has left; None: it had none."""
    if UDP not in left:
        return None
    return (
        _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM, 0, left[UDP]),
        _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0, left[TCP]),
    )


def _seqpacket(fd: int) -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


class _Serving:
    """The names and ports of a container, and the calls of those who connect and disconnect it.

    Attributes:
        answers: its questions for names come to us.
    """

    def __init__(self, made: Attachment, listener: _socket.socket) -> None:
        self.events = Events()
        self.answers = False
        self._made = made
        self._carried: list[HeldPort] = []
        self._listener = listener
        self.events.watch(listener.fileno(), self._accept)
        made.let_go = self._let_go
        self._lines = self._own_lines()
        self._questions: tuple[_socket.socket, ...] = ()
        self._go_on()

    def left(self) -> dict[str, int]:
        """Return the descriptors, by name, with which another helper can go on."""
        fds = {CALLS: self._listener.fileno()}
        fds |= {name: one.fileno() for name, one in zip((UDP, TCP), self._questions, strict=False)}
        for held in self._made.held:
            port = held.port
            words = (PORT, port.protocol, port.port, port.to_port, port.address)
            fds[" ".join(map(str, words))] = held.socket.fileno()
        return fds

    def _go_on(self) -> None:
        """Serve what the container has now; names are answered from the first network on that has some."""
        made = self._made
        for held in made.held:
            if held not in self._carried:
                self._carried.append(held)
                carrying.carry(self.events, held, partial(self._target, held))
        if made.answers_names() and not self.answers:
            self.answers = True
            udp, tcp = made.questions or resolver.open_sockets(made.namespace)
            self._questions = (udp, tcp)
            directory = Directory(made.store, made.order.container)
            resolver.Resolver(self.events, directory, made.order.servers, udp, tcp)

    def _target(self, held: HeldPort) -> str:
        place = self._made.published()
        if place is None:
            return ""
        return place[1].address(6 if ":" in held.port.address else 4) or place[1].address(4)

    def _let_go(self, held: HeldPort) -> None:
        if held in self._carried:
            self._carried.remove(held)
            carrying.end(self.events, held)

    # --- calls ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            caller = accept(self._listener)
        except OSError:
            return
        self.events.watch(caller.fileno(), lambda: self._hear(caller))

    def _hear(self, caller: _socket.socket) -> None:
        self.events.forget(caller.fileno())
        try:
            message = calling.receive(caller)
            if message is not None:
                calling.reply(caller, self._answer(message))
        except BlockingIOError:
            self.events.watch(caller.fileno(), lambda: self._hear(caller))
            return
        except OSError:
            pass  # it is gone
        caller.close()

    def _answer(self, message: Sequence[Any]) -> Sequence[Any]:
        """Do what is called for; return the answer."""
        made = self._made
        made.warnings = []
        try:
            match message:
                case ("connect", one):
                    attaching.connect(made, unpacked(one))
                case ("disconnect", str() as id):
                    attaching.disconnect(made, made.store.find(id))
                case ("rename", str() as name):
                    attaching.rename(made, name)
                    call_linked(made)
                case ("unlink", str() as alias):
                    unlink(made, alias)
                case ("linked",):
                    pass  # the file is written anew
                case _:
                    raise Misfit
            answered = self.answers
            self._go_on()
        except Misfit:
            return worker.fault_message(_OTHER_VERSION)
        except OSError as error:
            return worker.fault_message(attaching.problem(error))
        except Fault as fault:
            return worker.fault_message(fault)
        self._write_files(answered=answered)
        return ("done", made.warnings)

    def _own_lines(self) -> list[str]:
        made = self._made
        return [*hostfiles.own_lines(made.order, made.places), *linked_lines(made)]

    def _write_files(self, *, answered: bool) -> None:
        """Have the container's own files tell its names and whom to ask for others."""
        made = self._made
        order = made.order
        before, self._lines = self._lines, self._own_lines()
        if hostfiles.HOSTS in order.files:
            rewrite(
                made.pid,
                hostfiles.HOSTS,
                lambda text: hostfiles.moved_hosts(text, before, self._lines),
            )
        if hostfiles.RESOLV_CONF in order.files and self.answers and not answered:

            def ours(text: str) -> str:  # one that was edited stays
                return hostfiles.resolv_conf(order) if text == order.resolv_conf else text

            rewrite(made.pid, hostfiles.RESOLV_CONF, ours)


def _place(order: NetworkOrder) -> str:
    return os.path.join(order.folder, records.HELPERS, order.container)


def _only_one(order: NetworkOrder) -> int:
    """Wait until the helper of the container's run before has cleaned up."""
    path = _place(order)
    try:
        os.mkdir(os.path.dirname(path), 0o700)
    except FileExistsError:
        pass
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)


class Helper:
    """The helper of one run, as the monitor has it.

    Args:
        leave: lets go, in a new process, of what is the monitor's alone.
        follows: on one that was killed, or may be, or rests; the container is connected.
        left: what one that rests has left; with the container's own pidfd, unless that has ended.

    Attributes:
        pidfd: becomes readable when it ends.
        line: to it; None where another monitor has started it.

    Raises:
        Fault, OSError: the container cannot be connected; nothing is left of it.
    """

    def __init__(
        self,
        order: NetworkOrder,
        pid: int,
        leave: Callable[[], None],
        *,
        follows: bool = False,
        left: Mapping[str, int] = _NOTHING,
    ) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.pid, self.pidfd = syscalls.clone3(0)  # see the spawner
        if self.pid == 0:
            try:
                os.setsid()
                ours.close()
                left = {name: os.dup(fd) for name, fd in left.items()}
                leave()
                serve(None if follows else theirs, theirs, order, pid, left)
            finally:
                os._exit(1)
        theirs.close()
        self.hosts = self.resolv_conf = ""
        self.warnings: list[str] = []
        self.line: _socket.socket | None = ours
        self._owes_answer = False
        if follows:
            return
        data = ours.recv(_LINE_BYTES)
        answer: tuple[Any, ...] = marshal.loads(data) if data else _DIED
        if answer[0] != "connected":
            self.wait()
            raise Fault(answer[1], answer[2], tuple(answer[3]))
        _, self.hosts, self.resolv_conf, self.warnings = answer

    @classmethod
    def known(cls, pidfd: int) -> Helper:
        """Return the helper that another monitor has started."""
        helper = cls.__new__(cls)
        helper.pid, helper.pidfd = 0, pidfd
        helper.line = None
        return helper

    def ask_to_rest(self) -> bool:
        """Ask it to end if it has nothing to do; False: it cannot be asked, or has not answered yet."""
        if self.line is None or self._owes_answer or pod.is_used():
            return False
        try:
            self.line.send(marshal.dumps(("rest",)))
        except OSError:
            return False
        self._owes_answer = True
        return True

    def hear(self) -> dict[str, int] | None:
        """Return the descriptors, by name, of one that rests; {}: it is busy; None: it was killed."""
        assert self.line is not None
        space = _socket.CMSG_SPACE((_MOST_PORTS + 4) * 4)
        self._owes_answer = False
        try:
            flags = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
            data, rights, _, _ = self.line.recvmsg(_LINE_BYTES, space, flags)
        except OSError:
            return None
        if not data:
            return None
        message = marshal.loads(data)
        if message[0] != "rests":
            return {}
        fds: list[int] = []
        for _, _, packed in rights:
            fds += struct.unpack(f"={len(packed) // 4}i", packed[: len(packed) // 4 * 4])
        return dict(zip(message[1], fds, strict=True))

    def wait(self) -> bool:
        """Return when it has ended: whether it has cleaned up, behind a container that has, too."""
        try:
            if self.pid:
                return os.waitpid(self.pid, 0)[1] == 0
        except ChildProcessError:
            return True
        else:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            poller.poll()
            return procstatus.exit_code(self.pidfd) in (0, None)
        finally:
            os.close(self.pidfd)
            if self.line is not None:
                self.line.close()
                self.line = None
