"""Published ports that the process beside a container carries [NET-24]."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress

import pytest

from pybuild.networks.carrying import carry
from pybuild.networks.events import Events
from pybuild.networks.ports import HeldPort
from pybuild.networks.records import Port


class Noting(Events):
    """Events that note the descriptors that are waited for no longer, and what is to be done later."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []
        self.later: dict[object, Callable[[], None]] = {}

    def after(self, seconds: float, key: object, act: Callable[[], None]) -> None:
        self.later[key] = act
        super().after(seconds, key, act)

    def forget(self, fd: int) -> None:
        self.left.append(fd)
        super().forget(fd)


def in_a_child(work: Callable[[], None]) -> bool:
    """Tell whether *work* goes well in a process whose limits may be changed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("protocol", "kind"), [("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)]
)
def test_who_uses_up_all_descriptors_ends_nothing(protocol: str, kind: socket.SocketKind) -> None:
    """Anybody who reaches the port could else take names and ports from the container, or a processor."""

    def work() -> None:
        ours, theirs = (socket.socket(socket.AF_INET, kind) for _ in range(2))
        for one in (ours, theirs):
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
        if protocol == "tcp":
            ours.listen()
            theirs.listen()
        clients = [socket.socket(socket.AF_INET, kind) for _ in range(4)]
        for one in clients:
            one.connect(ours.getsockname())
            if protocol == "udp":
                one.send(b"x")
        events = Noting()
        port = Port(protocol, "127.0.0.1", ours.getsockname()[1], theirs.getsockname()[1])
        carry(events, HeldPort(port, ours), lambda: "127.0.0.1")
        free = os.dup(0)
        os.close(free)
        # One more is left, for a connection that comes in, and none to carry it on.
        most = free + 1 if protocol == "tcp" else free
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        events.turn()
        if protocol == "tcp":
            assert ours.fileno() in events.left

    assert in_a_child(work)


def test_a_client_that_has_said_all_before_the_server_lets_it_in_is_answered() -> None:
    """The queue of a server that is busy is full: the connection to it comes about later."""
    with socket.socket() as ours, socket.socket() as theirs, socket.socket() as client:
        for one in (ours, theirs):
            one.bind(("127.0.0.1", 0))
            one.settimeout(30)
        ours.listen()
        theirs.listen(0)
        with socket.create_connection(theirs.getsockname()), carried(ours, theirs):
            client.settimeout(30)
            client.connect(ours.getsockname())
            client.shutdown(socket.SHUT_WR)
            assert not select.select([client], [], [], 0.3)[0]  # it is neither heard nor refused
            theirs.accept()[0].close()
            server, _ = theirs.accept()
            with server:
                server.settimeout(30)
                assert server.recv(100) == b""
                server.sendall(b"an answer")
            assert client.recv(100) == b"an answer"


@contextmanager
def carried_connection() -> Generator[tuple[socket.socket, socket.socket]]:
    """Yield a client and the server's end of its connection, which a process carries."""
    with socket.socket() as ours, socket.socket() as theirs:
        for one in (ours, theirs):
            one.bind(("127.0.0.1", 0))
            one.listen()
        theirs.settimeout(30)
        # Both ends are made after the fork: else that process would hold them open, too.
        with carried(ours, theirs), socket.create_connection(ours.getsockname(), 30) as client:
            server, _ = theirs.accept()
            with server:
                server.settimeout(30)
                yield client, server


def all_of(end: socket.socket) -> tuple[bytes, bool]:
    """Return what can be read of a connection to its end, and whether it was broken off."""
    pieces: list[bytes] = []
    try:
        while piece := end.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:
        return b"".join(pieces), True
    return b"".join(pieces), False


def break_off(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


def test_an_answer_that_is_broken_off_does_not_look_whole() -> None:
    with carried_connection() as (client, server):
        server.sendall(b"a part")
        assert client.recv(6) == b"a part"
        break_off(server)
        assert all_of(client) == (b"", True)


def test_a_question_that_is_broken_off_does_not_look_whole() -> None:
    with carried_connection() as (client, server):
        client.sendall(b"a part")
        assert server.recv(6) == b"a part"
        break_off(client)
        assert all_of(server) == (b"", True)


def test_a_server_that_hears_nothing_to_the_end_is_heard_all_the_same() -> None:
    """One that refuses a large request has answered, and closes what it has not read; the client still sends."""
    with carried_connection() as (client, server):
        client.sendall(b"begin")
        while not select.select([server], [], [], 1)[0]:
            pass
        server.sendall(b"no")
        assert client.recv(2, socket.MSG_PEEK) == b"no"
        server.close()  # what it has not read breaks it off
        with suppress(ConnectionError):
            for _ in range(1000):
                client.sendall(b"more")
        assert all_of(client)[0] == b"no"


def test_a_client_that_has_gone_is_no_hindrance_to_a_quiet_server() -> None:
    """It has said all, and then goes: a server that waits for something else would never hear of it."""
    with carried_connection() as (client, server):
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        break_off(client)
        poller = select.poll()
        poller.register(server, 0)
        ((_, happened),) = poller.poll(30_000)
        assert happened & select.POLLERR


def test_each_way_ends_by_itself() -> None:
    with carried_connection() as (client, server):
        server.sendall(b"hello")
        server.shutdown(socket.SHUT_WR)
        assert all_of(client) == (b"hello", False)
        client.sendall(b"and I go on")
        client.shutdown(socket.SHUT_WR)
        assert all_of(server) == (b"and I go on", False)


def test_nobody_listens_is_said_as_such() -> None:
    with socket.socket() as ours, socket.socket() as theirs, socket.socket() as client:
        for one in (ours, theirs):
            one.bind(("127.0.0.1", 0))  # the other one does not listen
        ours.listen()
        client.settimeout(30)
        with carried(ours, theirs), pytest.raises(ConnectionResetError):
            client.connect(ours.getsockname())
            client.recv(1)


def test_a_descriptor_that_is_another_by_now_hears_nothing() -> None:
    """Closed for what another has said in the same turn, its number belongs to who came in since."""
    first, first_end = os.pipe()
    second, second_end = os.pipe()
    events, heard = Events(), list[str]()

    def take() -> None:
        for fd in (first, second):
            events.forget(fd)
        os.close(second)
        assert os.dup(quiet) == second
        events.watch(second, lambda: heard.append("another"))

    quiet, quiet_end = os.pipe()
    for fd in (first, second):
        events.watch(fd, take)
    for fd in (first_end, second_end):
        os.write(fd, b"x")
    events.turn()
    assert heard == []
    for fd in (first, first_end, second, second_end, quiet, quiet_end):
        os.close(fd)


def test_datagrams_follow_a_container_to_another_address() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as before,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as after,
    ):
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        before.bind(("127.0.0.2", 0))
        after.bind(("127.0.0.3", before.getsockname()[1]))
        addresses = ["127.0.0.2"]
        events = Noting()
        port = Port("udp", "127.0.0.1", ours.getsockname()[1], before.getsockname()[1])
        carry(events, HeldPort(port, ours), lambda: addresses[-1])
        for one in (before, after):
            one.settimeout(30)
            client.sendto(b"x", ours.getsockname())
            events.turn()
            assert one.recv(10) == b"x"
            addresses.append("127.0.0.3")
        for act in events.later.values():
            act()  # nobody has said anything for long


@contextmanager
def carried(ours: socket.socket, theirs: socket.socket) -> Generator[None]:
    """Have a process carry what comes to one listener to the other."""
    child = os.fork()
    if child == 0:
        try:
            ours.setblocking(False)
            events = Events()
            port = Port("tcp", "127.0.0.1", ours.getsockname()[1], theirs.getsockname()[1])
            carry(events, HeldPort(port, ours), lambda: "127.0.0.1")
            while True:
                events.turn()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
