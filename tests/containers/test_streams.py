"""A process's streams at the monitor's end: what is drained, kept back, and not waited for."""

from __future__ import annotations

import fcntl
import marshal
import os
import pty
import select
import socket
import tty
from collections.abc import Generator
from contextlib import suppress

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
    streams.resize(33, 99)
    master, slave = pty.openpty()
    tty.setraw(slave)
    streams.add_terminal(master)
    assert os.read(slave, 100) == b"typed\n"
    assert os.get_terminal_size(slave) == (99, 33)
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


@pytest.mark.parametrize("takes", [0, 1])
def test_who_takes_nothing_is_left_behind(pipe: tuple[int, int], takes: int) -> None:
    """One of two who came later and stops to read held the process up, and the other, for ever [ENG-35]."""
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    loop = Loop()
    streams = Streams(loop, lambda number, data: None, once=True, patience_s=0)
    streams.add_output(os.dup(read_end), STDOUT)
    lines, clients = list[LocalLine](), list[AttachedClient]()
    for _ in range(2):
        ours, theirs = LocalLine.pair()
        theirs.setblocking(False)
        lines.append(ours)
        clients.append(AttachedClient(loop, theirs))
        clients[-1].watch(lambda events: None)
        streams.attach(clients[-1], StreamAttachment())
    reader, stopped = clients
    got = written = 0
    with watchdog.ends():
        while not stopped.is_gone:
            with suppress(BlockingIOError):
                written += os.write(write_end, bytes(1 << 14))
            if stopped.is_full and takes:
                takes -= 1
                lines[1].recv(1 << 17, socket.MSG_DONTWAIT)
            loop.turn(0)
            with suppress(BlockingIOError):
                got += len(marshal.loads(lines[0].recv(1 << 17, socket.MSG_DONTWAIT))[2])
        assert written > 1 << 20
        while got < written:
            loop.turn(0)
            got += len(marshal.loads(lines[0].recv(1 << 17))[2])
    assert not reader.is_gone and stopped not in streams.clients
    streams.drain()
    reader.abandon()
    for line in lines:
        line.close()


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


def spoken(line: LocalLine) -> list[tuple[object, ...]]:
    """Return the messages that have come."""
    heard: list[tuple[object, ...]] = []
    with suppress(BlockingIOError):
        while data := line.recv(1 << 18, socket.MSG_DONTWAIT):
            heard.append(marshal.loads(data))
    return heard


@pytest.mark.parametrize("stdout", [True, False])
@pytest.mark.parametrize("stderr", [True, False])
def test_each_hears_the_streams_that_it_is_attached_to(stdout: bool, stderr: bool) -> None:
    loop = Loop()
    streams = Streams(loop, lambda number, data: None, once=True)
    ends: list[int] = []
    for number in (1, 2):
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)
        streams.add_output(read_end, number)
        os.write(write_end, str(number).encode())
        ends.append(write_end)
    assert sorted(streams.outputs) == [1, 2]
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    streams.attach(client, StreamAttachment(stdout=stdout, stderr=stderr))
    loop.turn(0)
    expected = [("output", 1, b"1")] * stdout + [("output", 2, b"2")] * stderr
    assert sorted(spoken(ours), key=repr) == expected
    for fd in ends:
        os.close(fd)
    loop.turn(0)
    assert streams.descriptors() == () and loop.watched() == ()
    ours.close()
    theirs.close()


def test_who_has_left_is_heard_no_more() -> None:
    """They may have spoken, and left, before there was room for what they were sent."""
    loop = Loop()
    heard: list[int] = []
    drained: list[bool] = []
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    client.watch(heard.append)
    client.on_drained = lambda: drained.append(True)
    while client.is_drained:
        client.send(("output", 1, bytes(60_000)))
    loop.turn(0)
    assert heard == []
    spoken(ours)
    loop.turn(0)
    assert heard == [] and client.is_drained and drained == []  # it was not full in between
    ours.send(b"x")
    loop.turn(0)
    assert heard == [select.POLLIN]
    client.close()
    assert client.is_gone and loop.watched() == ()
    client.send(("more",))
    ours.close()


def test_a_client_is_full_at_a_megabyte() -> None:
    loop = Loop()
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    while client.is_drained:
        client.send((bytes(60_000),))
    size = len(marshal.dumps((bytes(60_000),)))
    left = (1 << 20) - size
    while left > 200_000:
        client.send((bytes(60_000),))
        left -= size
    rest = left - len(marshal.dumps((b"",)))
    client.send((bytes(rest - 1),))
    assert not client.is_full
    client.send((b"",))
    assert client.is_full
    client.abandon()
    ours.close()


def test_input_that_is_taken_is_watched_no_more(pipe: tuple[int, int]) -> None:
    """A pipe can be written to nearly always: the monitor would turn without end."""
    read_end, write_end = pipe
    loop = Loop()
    ended: list[bool] = []
    streams = Streams(loop, lambda number, data: None, once=False)
    streams.on_input_end = lambda: ended.append(True)
    os.set_blocking(write_end, False)
    streams.add_input(os.dup(write_end))
    ours, theirs = LocalLine.pair()
    theirs.setblocking(False)
    client = AttachedClient(loop, theirs)
    streams.attach(client, StreamAttachment(stdin=True))
    streams.feed(client, bytes(1 << 17))
    assert streams.is_feeding and len(loop.watched()) == 1
    os.set_blocking(read_end, True)
    assert len(os.read(read_end, 1 << 16)) == 1 << 16
    loop.turn(0)
    assert len(os.read(read_end, 1 << 16)) == 1 << 16
    loop.turn(0)
    assert not streams.is_feeding and loop.watched() == ()
    assert spoken(ours) == [("taken",)]
    streams.end_input()  # not once: it outlasts whoever is attached
    assert streams.input >= 0 and ended == []
    streams.leave(client)
    assert streams.input >= 0
    streams.close_input()
    assert streams.input < 0 and ended == [True]
    streams.feed(client, b"x")
    assert not streams.is_feeding
    client.abandon()
    ours.close()
    os.close(read_end)


def test_who_cannot_be_reached_is_gone() -> None:
    loop = Loop()
    ours, theirs = LocalLine.pair()
    client = AttachedClient(loop, theirs)
    client.watch(lambda events: None)
    ours.close()
    client.send(("output", 1, b"x"))
    assert client.is_gone and client.is_drained and loop.watched() == ()
