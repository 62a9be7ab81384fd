"""Published ports that the process beside a container carries [NET-24]."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from pybuild.networks.carrying import carry
from pybuild.networks.events import Events
from pybuild.networks.ports import HeldPort
from pybuild.networks.records import Port


class Noting(Events):
    """Events that note the descriptors that are waited for no longer."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []

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
