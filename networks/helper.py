"""The process beside a container that has networks of its own: it connects it, serves it, cleans up.

It is forked by the container's monitor and waits for the end of the container, not of the monitor: who
kills that one takes no name and no port from the container. Killed itself, it is followed by another,
which goes on with what the records say; where nobody follows, the next command that looks at networks
removes what is left.
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os
import select
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
from pybuild.networks.linkedhosts import call_linked, linked_lines, sign, sign_off
from pybuild.networks.ports import accept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from pybuild.networks.attaching import Attachment
    from pybuild.networks.order import NetworkOrder
    from pybuild.networks.ports import HeldPort

_OTHER_VERSION = Fault(
    ENVIRONMENT,
    "the container was started by another version of pybuild",
    ("start it again, then connect it",),
)
_DIED = ("fault", "environment", "the process that connects the container ended", ())


def serve(channel: _socket.socket | None, order: NetworkOrder, pid: int) -> NoReturn:
    """Connect the container whose first process is *pid*, say so, and serve it until it ends.

    Says ``("connected", hosts, resolv_conf, warnings)`` on the channel, or a fault; then closes it. Without
    a channel the container is connected already, and this takes over when its helper is gone.
    """
    status = 1
    try:
        if pod.is_used():
            order = hostfiles.beyond_loopback(order, NAME_SERVER)
        watched = os.pidfd_open(pid)
        lock = _only_one(order)
        devices: list[str] = []
        try:
            _serve_locked(channel, order, pid, watched, lock, devices)
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
    order: NetworkOrder,
    pid: int,
    watched: int,
    lock: int,
    devices: list[str],
) -> None:
    """Do it as the only helper of the container; *devices* gets the names of those that are left."""
    ended: list[bool] = []
    try:
        if channel is not None:
            made = apart.attach(order, pid)
            if pod.is_used():
                with locked(made.store.lock):
                    pod.enter(made.store)
        elif _has_ended(watched):
            devices += attaching.detach(order.folder, order.container, pid)
            return
        else:
            made = attaching.take_over(order, pid)
        if pod.is_used():
            pod.sign(lock)
    except OSError as error:
        raise attaching.problem(error) from error
    listener: _socket.socket | None = None
    try:
        listener = calling.listen(order.folder, order.container)
        serving = _Serving(made, listener)
        serving.events.watch(watched, lambda: ended.append(True))
        if channel is not None:
            hosts = hostfiles.hosts(order, made.places, linked_lines(made))
            resolv_conf = hostfiles.resolv_conf(order) if serving.answers else order.resolv_conf
            channel.send(marshal.dumps(("connected", hosts, resolv_conf, made.warnings)))
            channel.close()
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
        self._go_on()

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
        follows: on one that was killed, or may be; the container is connected.

    Attributes:
        pidfd: becomes readable when it ends.

    Raises:
        Fault, OSError: the container cannot be connected; nothing is left of it.
    """

    def __init__(
        self, order: NetworkOrder, pid: int, leave: Callable[[], None], *, follows: bool = False
    ) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.pid, self.pidfd = syscalls.clone3(0)  # see the spawner
        if self.pid == 0:
            try:
                os.setsid()
                ours.close()
                leave()
                serve(None if follows else theirs, order, pid)
            finally:
                os._exit(1)
        theirs.close()
        self.hosts = self.resolv_conf = ""
        self.warnings: list[str] = []
        if follows:
            ours.close()
            return
        data = ours.recv(1 << 18)
        ours.close()
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
        return helper

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
