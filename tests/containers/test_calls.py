"""Calls to a monitor over its socket: who calls, what they say, and that they have left."""

from __future__ import annotations

import _socket
import marshal
import os
import resource
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pybuild.containers.calls import Calls, tell
from pybuild.containers.lines import SOCKET, LocalLine
from pybuild.containers.loop import Loop
from pybuild.containers.streams import AttachedClient


class Monitor:
    """A loop with the socket of a container's directory; what is said to it."""

    def __init__(self, home: int) -> None:
        self.loop = Loop()
        self.said: list[tuple[Any, ...] | None] = []
        self.clients: list[AttachedClient] = []
        self.calls = Calls(self.loop, home, self._say)

    def _say(self, client: AttachedClient, message: tuple[Any, ...] | None) -> None:
        self.said.append(message)
        self.clients.append(client)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            self.loop.turn(0)


@pytest.fixture
def home(tmp_path: Path) -> Generator[int]:
    before = os.getcwd()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield fd
    os.close(fd)
    os.chdir(before)


def test_what_is_said_is_heard_until_they_leave(home: int, tmp_path: Path) -> None:
    (tmp_path / SOCKET).touch()  # one that another monitor has left
    monitor = Monitor(home)
    assert os.getcwd() == "/"
    line = LocalLine.to(str(tmp_path / SOCKET))
    line.send(marshal.dumps(("kill", 9)))
    monitor.turn(2)
    assert monitor.said == [("kill", 9)]
    [client] = monitor.clients
    assert len(monitor.loop.watched()) == 2
    client.send(("done", []))
    assert marshal.loads(line.recv(100)) == ("done", [])
    assert monitor.calls.are_drained
    monitor.turn()
    assert len(monitor.said) == 1  # nothing is not a word
    line.close()
    monitor.turn()
    assert monitor.said == [("kill", 9), None]
    assert client.is_gone
    assert len(monitor.loop.watched()) == 1
    monitor.calls.end()


def test_who_is_there_already_is_still_heard(home: int, tmp_path: Path) -> None:
    monitor = Monitor(home)
    ours, theirs = LocalLine.pair()
    client = monitor.calls.take(_socket.socket(fileno=theirs.detach()))
    assert isinstance(client, AttachedClient)
    monitor.calls.end()
    with pytest.raises(ConnectionRefusedError):
        LocalLine.to(str(tmp_path / SOCKET))
    ours.send(marshal.dumps(("wait",)))
    monitor.turn()
    assert monitor.said == [("wait",)]
    assert monitor.clients == [client]
    ours.close()
    monitor.turn()
    assert monitor.loop.watched() == ()


def test_calls_are_drained_when_all_is_on_its_way(home: int) -> None:
    monitor = Monitor(home)
    ours, theirs = LocalLine.pair()
    client = monitor.calls.take(_socket.socket(fileno=theirs.detach()))
    pieces = 0
    while monitor.calls.are_drained:
        client.send(("output", 1, bytes(60_000)))
        pieces += 1
    client.close()
    while not monitor.calls.are_drained:
        assert len(marshal.loads(ours.recv(1 << 18))[2]) == 60_000
        pieces -= 1
        monitor.turn()
    for _ in range(pieces):
        assert marshal.loads(ours.recv(1 << 18))[0] == "output"
    assert ours.recv(9) == b""
    assert client.is_gone
    monitor.calls.end()
    ours.close()


def test_who_asked_and_has_gone_is_not_told() -> None:
    ours, theirs = LocalLine.pair()
    tell(theirs, ["started", []])
    assert marshal.loads(ours.recv(100)) == ("started", [])
    ours.close()
    tell(theirs, ["started", []])
    theirs.close()
    tell(theirs, ["started", []])


def test_who_waits_is_let_in_when_there_are_descriptors_again(home: int, tmp_path: Path) -> None:
    """Seen again and again meanwhile, they would take a processor."""

    def work() -> None:
        monitor = Monitor(home)
        line = LocalLine.into(home)
        line.send(marshal.dumps(("wait",)))
        most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        monitor.turn()
        assert monitor.loop.watched() == () and monitor.loop.has_timers
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        while not monitor.said:
            monitor.loop.turn()
        assert monitor.said == [("wait",)]

    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
