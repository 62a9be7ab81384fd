"""A process's streams at the monitor's end: what is drained, kept back, and not waited for."""

from __future__ import annotations

import fcntl
import marshal
import os
import pty
import socket
import tty
from collections.abc import Generator

import pytest

from pybuild.containers.attaching import Attached
from pybuild.containers.lines import LocalLine
from pybuild.containers.loop import Loop
from pybuild.containers.order import StreamAttachment
from pybuild.containers.streams import STDOUT, AttachedClient, Streams
from pybuild.model.errors import EnvironmentFault
from tests import watchdog


@pytest.fixture
def pipe() -> Generator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(write_end)


def test_what_is_written_on_and_on_is_drained_once(pipe: tuple[int, int]) -> None:
    """A process that another left behind can write as fast as it is read."""
    read_end, write_end = pipe
    pieces: list[bytes] = []

    def take(_number: int, data: bytes) -> None:
        pieces.append(data)
        os.write(write_end, b"y\n" * 1000)

    streams = Streams(Loop(), take, once=True)
    streams.add_output(read_end, STDOUT)
    os.write(write_end, b"first\n")
    with watchdog.ends():
        streams.drain()
    assert pieces[0] == b"first\n"
    assert streams.descriptors() == ()


def test_a_pipe_that_was_made_large_is_drained_whole(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    pieces: list[bytes] = []
    streams = Streams(Loop(), lambda number, data: pieces.append(data), once=True)
    streams.add_output(read_end, STDOUT)
    written = os.write(write_end, b"x" * (1 << 20))
    streams.drain()
    assert sum(map(len, pieces)) == written


def test_what_is_typed_before_there_is_a_terminal_waits_for_it() -> None:
    """``exec -it``: keys may come while the process is still being set up."""
    loop = Loop()
    streams = Streams(loop, lambda number, data: None, once=True)
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    client.watch(lambda events: None)
    streams.attach(client, StreamAttachment(stdin=True))
    streams.feed(client, b"typed\n")
    master, slave = pty.openpty()
    tty.setraw(slave)
    streams.add_terminal(master)
    assert os.read(slave, 100) == b"typed\n"
    os.close(slave)
    streams.drain()
    client.abandon()
    ours.close()


def test_whoever_types_hears_when_it_is_taken(pipe: tuple[int, int]) -> None:
    """So what is said to the monitor beside it, a signal perhaps, does not wait behind it."""
    read_end, write_end = pipe
    loop = Loop()
    streams = Streams(loop, lambda number, data: None, once=True)
    os.set_blocking(write_end, False)
    os.set_blocking(read_end, True)
    streams.add_input(os.dup(write_end))
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    client.watch(lambda events: None)
    streams.attach(client, StreamAttachment(stdin=True))
    streams.feed(client, b"x")
    assert marshal.loads(ours.recv(100)) == ("taken",)
    os.write(write_end, bytes(1 << 16)[1:])
    streams.feed(client, b"end")
    with pytest.raises(BlockingIOError):
        ours.recv(100, socket.MSG_DONTWAIT)
    assert len(os.read(read_end, 1 << 16)) == 1 << 16
    loop.turn()
    assert marshal.loads(ours.recv(100)) == ("taken",)
    assert os.read(read_end, 100) == b"end"
    streams.close_input()
    client.abandon()
    ours.close()


def test_who_reads_slowly_is_waited_for_and_not_for_ever(pipe: tuple[int, int]) -> None:
    """ENG-35: output goes on when all was sent, also where that took several turns."""
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    loop = Loop()
    streams = Streams(loop, lambda number, data: None, once=True)
    streams.add_output(os.dup(read_end), STDOUT)
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    client.watch(lambda events: None)
    streams.attach(client, StreamAttachment(waits=True))

    def turn() -> None:
        loop.after(0, lambda: None)  # or it waits where nothing is to be done
        loop.turn()

    written = got = 0
    while not client.is_full:
        written += os.write(write_end, bytes(1 << 14))
        turn()
    with watchdog.ends():
        while got < written:
            got += len(marshal.loads(ours.recv(1 << 17, socket.MSG_DONTWAIT))[2])
            turn()
    os.write(write_end, b"more")
    turn()
    assert marshal.loads(ours.recv(100, socket.MSG_DONTWAIT)) == ("output", STDOUT, b"more")
    streams.drain()
    client.abandon()
    ours.close()


def test_a_status_is_heard_though_the_monitor_left_before_it_heard_us() -> None:
    ours, theirs = LocalLine.pair()
    with ours:
        theirs.send(marshal.dumps(("ended", 3)))
        ours.send(marshal.dumps(("input", b"never read")))
        theirs.close()
        attached = Attached(ours, stdin=False, terminal=False, keys=None, proxies=False)
        assert attached.follow() == 3


def test_a_monitor_that_is_gone_is_named() -> None:
    """A client may leave between the connection and the first word, which would end us by SIGPIPE's status."""
    ours, theirs = LocalLine.pair()
    with ours:
        theirs.close()
        attached = Attached(ours, stdin=False, terminal=False, keys=None, proxies=False)
        attached.say("attach", ())
        with pytest.raises(EnvironmentFault, match="monitor has gone"):
            attached.follow()
