"""The standard streams of a process whose other ends are a client's: real pipes, and a real terminal [6]."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import struct
import termios

import pytest

from pybuild.executor.steps.processstreams import ProcessStreams

ALL = frozenset((0, 1, 2))


def test_streams_that_nobody_wants_lead_nowhere() -> None:
    async def work() -> None:
        streams = ProcessStreams({1}, terminal=False)
        assert streams.outputs == (1,)
        stdin, stdout, stderr = streams.stdio
        assert os.read(stdin, 9) == b""
        assert os.write(stderr, b"lost") == 4
        os.write(stdout, b"kept")
        assert await streams.read(1) == b"kept"
        await streams.write(b"nobody has asked for it")
        streams.resize(3, 4)  # there is no terminal
        streams.handed_over()
        assert await streams.read(1) == b""
        streams.close()
        streams.close()

    asyncio.run(work())


def test_more_goes_in_than_a_pipe_holds_and_comes_out_in_pieces() -> None:
    data = os.urandom(300_000)

    async def work() -> None:
        streams = ProcessStreams(ALL, terminal=False)
        assert streams.outputs == (1, 2)
        stdin, stdout, stderr = (os.dup(fd) for fd in streams.stdio)
        streams.handed_over()
        cat = await asyncio.create_subprocess_exec("cat", stdin=stdin, stdout=stdout, stderr=stderr)
        for fd in (stdin, stdout, stderr):
            os.close(fd)

        async def give() -> None:
            await streams.write(data)
            streams.end_input()

        async def take() -> bytes:
            pieces: list[bytes] = []
            while piece := await streams.read(1):
                pieces.append(piece)
            return b"".join(pieces)

        _, taken = await asyncio.gather(give(), take())
        assert taken == data
        assert await streams.read(2) == b""
        assert await cat.wait() == 0
        await streams.write(b"there is no input any more")
        streams.close()

    asyncio.run(work())


def test_a_process_that_has_ended_is_waited_for_no_longer() -> None:
    async def work() -> None:
        streams = ProcessStreams(ALL, terminal=False)  # somebody else keeps the other ends
        reading = asyncio.ensure_future(streams.read(1))
        writing = asyncio.ensure_future(streams.write(bytes(300_000)))
        await asyncio.sleep(0)
        assert not reading.done() and not writing.done()
        streams.has_ended()
        await writing
        os.write(streams.stdio[1], b"last")  # what it wrote may take a moment
        assert await reading == b"last"
        streams.close()

    asyncio.run(work())


def test_what_nobody_reads_any_more_is_lost() -> None:
    async def work() -> None:
        streams = ProcessStreams({0}, terminal=False)
        assert streams.outputs == ()
        streams.handed_over()
        await streams.write(b"nobody")
        streams.close()

    asyncio.run(work())


def test_a_terminal_is_all_three_and_has_a_size() -> None:
    async def work() -> None:
        streams = ProcessStreams(ALL, terminal=True)
        assert streams.outputs == (1,) and len(set(streams.stdio)) == 1
        theirs = streams.stdio[0]
        streams.resize(30, 100)
        size = fcntl.ioctl(theirs, termios.TIOCGWINSZ, bytes(8))
        assert struct.unpack("HHHH", size) == (30, 100, 0, 0)
        streams.resize(0x10000, 1)  # no terminal is so high
        assert fcntl.ioctl(theirs, termios.TIOCGWINSZ, bytes(8)) == size
        await streams.write(b"line\n")
        assert os.read(theirs, 99) == b"line\n"
        streams.end_input()  # in a terminal that is a key
        await streams.write(b"more\n")
        assert os.read(theirs, 99) == b"more\n"
        streams.handed_over()
        said = b""
        while piece := await streams.read(1):
            said += piece
        assert said == b"line\r\nmore\r\n"  # its echo
        streams.close()

    asyncio.run(work())


@pytest.mark.parametrize(("terminal", "more"), [(False, 3), (True, 2)])
def test_streams_that_cannot_be_had_leave_nothing(terminal: bool, more: int) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)  # the lowest number that nobody has
            os.close(free)
            os.closerange(free, 1 << 12)
            before = os.listdir("/proc/self/fd")
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
            with pytest.raises(OSError, match="Too many open files"):
                ProcessStreams(ALL, terminal=terminal)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert os.listdir("/proc/self/fd") == before
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
