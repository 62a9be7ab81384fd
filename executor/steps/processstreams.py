"""The standard streams of a process whose other ends are a client's: pipes, or a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Collection

_PIECE_BYTES = 32 << 10
_DRAIN_S = 1.0  # how long the output of a process that has ended may stay away
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_MOST_SIZE = 0xFFFF


class ProcessStreams:
    """The streams of one process; those that nobody wants lead nowhere.

    Args:
        numbers: those that the client has ends of.
        terminal: all are one terminal, and what is written is all standard output.

    Attributes:
        stdio: the ends for the process: standard input, output and error.
        outputs: the numbers that there is something to be read of.
    """

    def __init__(self, numbers: Collection[int], *, terminal: bool) -> None:
        self._ended = asyncio.Event()
        self._own: dict[int, int] = {}
        self._theirs: list[int] = []
        self._terminal = -1
        try:
            self.stdio = self._opened_terminal() if terminal else self._opened(numbers)
        except BaseException:
            self.close()
            raise
        for fd in self._own.values():
            os.set_blocking(fd, False)
        self.outputs = tuple(number for number in self._own if number != _STDIN)

    def _opened_terminal(self) -> tuple[int, int, int]:
        master, slave = os.openpty()
        self._terminal = master
        self._theirs.append(slave)
        self._own[_STDOUT] = master
        self._own[_STDIN] = os.dup(master)
        return slave, slave, slave

    def _opened(self, numbers: Collection[int]) -> tuple[int, int, int]:
        for number in (_STDIN, _STDOUT, _STDERR):
            if number not in numbers:
                self._theirs.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
                continue
            read_end, write_end = os.pipe()
            ours, theirs = (write_end, read_end) if number == _STDIN else (read_end, write_end)
            self._own[number] = ours
            self._theirs.append(theirs)
        stdin, stdout, stderr = self._theirs
        return stdin, stdout, stderr

    def handed_over(self) -> None:
        """Close the ends of the process, which has them by now."""
        while self._theirs:
            os.close(self._theirs.pop())

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the client's terminal; without a terminal it is nobody's."""
        if self._terminal >= 0 and max(rows, columns) <= _MOST_SIZE:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def has_ended(self) -> None:
        """Wait for output no longer than it takes to come: the process is gone."""
        self._ended.set()

    async def write(self, data: bytes) -> None:
        """Write to the standard input; what nobody reads any more is lost."""
        view = memoryview(data)
        while view and _STDIN in self._own:
            try:
                view = view[os.write(self._own[_STDIN], view) :]
            except BlockingIOError:
                if not await self._ready(self._own[_STDIN], for_writing=True):
                    return
            except OSError:
                return

    def end_input(self) -> None:
        """Let the process read the end of its input; in a terminal that is a key."""
        if self._terminal < 0 and _STDIN in self._own:
            os.close(self._own.pop(_STDIN))

    async def read(self, number: int) -> bytes:
        """Return the next piece of an output, or b"" after the last."""
        while True:
            try:
                return os.read(self._own[number], _PIECE_BYTES)
            except BlockingIOError:
                if not await self._ready(self._own[number], for_writing=False):
                    return b""
            except OSError:  # EIO: nobody has the terminal any more
                return b""

    async def _ready(self, fd: int, *, for_writing: bool) -> bool:
        """Wait until *fd* is ready; False: it is not going to be."""
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        # One of its own: a socket can be watched for one thing at a time, and by one task.
        watched = os.dup(fd)
        (loop.add_writer if for_writing else loop.add_reader)(watched, tell)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done() and not for_writing:
                await asyncio.wait({ready}, timeout=_DRAIN_S)
            return ready.done()
        finally:
            ended.cancel()
            (loop.remove_writer if for_writing else loop.remove_reader)(watched)
            os.close(watched)

    def close(self) -> None:
        """Close all ends; idempotent."""
        self._ended.set()
        self.handed_over()
        self._terminal = -1
        while self._own:
            os.close(self._own.popitem()[1])
