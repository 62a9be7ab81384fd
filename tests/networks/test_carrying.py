"""Published ports that the process beside a container carries, when its descriptors are all in use [NET-24]."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable

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
