"""The process beside a container that has networks of its own: it connects it, serves it, cleans up.

It is forked by the container's monitor and waits for the end of the container, not of the monitor: who
kills that one takes no name and no port from the container. Killed itself, it leaves what the next
command that looks at networks finds and removes.
"""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os

from pybuild.executor.zygote import worker
from pybuild.executor.zygote.faults import Fault
from pybuild.networks import attaching, carrying, hostfiles, records, resolver
from pybuild.networks.directory import Directory
from pybuild.networks.events import Events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from pybuild.networks.attaching import Attachment
    from pybuild.networks.order import NetworkOrder

_DIED = ("fault", "environment", "the process that connects the container ended", ())


def serve(channel: _socket.socket, order: NetworkOrder, pid: int) -> NoReturn:
    """Connect the container whose first process is *pid*, say so, and serve it until it ends.

    Says ``("connected", hosts, resolv_conf, warnings)`` on the channel, or a fault; then closes it.
    """
    status = 1
    try:
        watched = os.pidfd_open(pid)
        lock = _only_one(order)
        try:
            _serve_locked(channel, order, pid, watched)
        finally:
            os.unlink(_place(order))
            os.close(lock)
        status = 0
    except BaseException as error:  # noqa: BLE001 - all of it is reported
        try:
            channel.send(marshal.dumps(worker.fault_message(error)))
        except OSError:
            os.write(2, f"{type(error).__name__}: {error}\n{worker.where(error)}\n".encode())
    finally:
        os._exit(status)


def _serve_locked(channel: _socket.socket, order: NetworkOrder, pid: int, watched: int) -> None:
    """Do it as the only helper of the container."""
    try:
        made = attaching.attach(order, pid)
    except OSError as error:
        raise attaching.problem(error) from error
    try:
        events = Events()
        resolv_conf = _serve_names(events, made, order)
        for held in made.held:
            _, endpoint = next(place for place in made.places if place[1].ports)
            address = endpoint.address(6 if ":" in held.port.address else 4)
            carrying.carry(events, held, address or endpoint.address(4))
        ended: list[bool] = []
        events.watch(watched, lambda: ended.append(True))
        hosts = hostfiles.hosts(order, made.places)
        channel.send(marshal.dumps(("connected", hosts, resolv_conf, made.warnings)))
        channel.close()
        while not ended:
            events.turn()
    finally:
        made.close()
        attaching.detach(order.folder, order.container, pid)


def _serve_names(events: Events, made: Attachment, order: NetworkOrder) -> str:
    """Answer the container's questions for names, where its networks have some; return its resolv.conf."""
    if not made.has_names():
        return order.resolv_conf
    udp, tcp = resolver.open_sockets(made.namespace)
    directory = Directory(made.store, order.container)
    resolver.Resolver(events, directory, order.servers, udp, tcp)
    return hostfiles.resolv_conf(order)


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

    Raises:
        Fault, OSError: the container cannot be connected; nothing is left of it.
    """

    def __init__(self, order: NetworkOrder, pid: int, leave: Callable[[], None]) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                ours.close()
                leave()
                serve(theirs, order, pid)
            finally:
                os._exit(1)
        theirs.close()
        data = ours.recv(1 << 18)
        ours.close()
        answer: tuple[Any, ...] = marshal.loads(data) if data else _DIED
        if answer[0] != "connected":
            self.wait()
            raise Fault(answer[1], answer[2], tuple(answer[3]))
        self.hosts: str = answer[1]
        self.resolv_conf: str = answer[2]
        self.warnings: list[str] = answer[3]

    def wait(self) -> None:
        """Return when it has cleaned up, behind a container that has ended."""
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
