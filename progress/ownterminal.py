"""The terminal that a command was started at: its keys one by one, or all of it lent to a process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

from pybuild.executor.steps.processstreams import ProcessStreams
from pybuild.image.layer.writing import write_all

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_PIECE_BYTES = 1 << 15
_LFLAGS = 3
_ESCAPE = b"\x1b"
_WITHOUT_MARKS = {ord("["): None, ord("]"): None}
_END = b"\x04"
"""The key of a terminal that has gone, too."""
_LEAVING = b"\x03" + _END


def is_interactive() -> bool:
    """Return whether somebody can be asked: standard input and standard error are terminals."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def choice(menu: Mapping[int, str], leave: int) -> int:
    """Show *menu* and return the key of it that is pressed; Ctrl-C and Ctrl-D are *leave*, as at a shell."""
    with _keys_alone():
        sys.stderr.write("  ".join(menu.values()) + " > ")
        sys.stderr.flush()
        answers: list[int] = []
        while not answers:
            answers = [one for one in await _keys() if one in menu or one in _LEAVING]
    answer = leave if answers[0] in _LEAVING else answers[0]
    sys.stderr.write(menu[answer].translate(_WITHOUT_MARKS) + "\n")
    sys.stderr.flush()
    return answer


@contextmanager
def _keys_alone() -> Generator[None]:
    """Have keys come as they are pressed, unseen, and let none of them be a signal.

    Keys that were pressed before are forgotten: they answer no question.
    """
    with _as_before():
        now = termios.tcgetattr(_STDIN)
        now[_LFLAGS] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
        termios.tcsetattr(_STDIN, termios.TCSAFLUSH, now)
        yield


@contextmanager
def _raw() -> Generator[None]:
    with _as_before():
        tty.setraw(_STDIN, termios.TCSANOW)  # what was typed ahead is not lost
        yield


@contextmanager
def _as_before() -> Generator[None]:
    """Leave the terminal as it was, if it is still there."""
    before = termios.tcgetattr(_STDIN)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


async def _keys() -> bytes:
    """Return the next keys, in one case; `_END` where the terminal is gone. A key of several bytes is none."""
    pressed = await _read() or _END
    return b"" if pressed.startswith(_ESCAPE) else pressed.lower()


async def _read() -> bytes:
    """Return the next piece of input; empty at the end of the terminal.

    A thread waits for it: an event loop would make the terminal one that never blocks, for whoever
    has it after us, too.
    """
    waking, wake = os.pipe()
    poller = select.poll()
    for fd in (_STDIN, waking):
        poller.register(fd, select.POLLIN)
    waiting = asyncio.ensure_future(asyncio.to_thread(poller.poll))
    try:
        await asyncio.shield(waiting)
    finally:
        os.write(wake, b"\0")
        await asyncio.wait([waiting])
        os.close(waking)
        os.close(wake)
    try:
        return os.read(_STDIN, _PIECE_BYTES)
    except OSError:
        return b""  # EIO: the terminal is gone


class LentTerminal:
    """Our terminal as that of a process: keys go there as they are pressed, Ctrl-C too.

    Args:
        streams: of the process, which are one terminal.
    """

    def __init__(self, streams: ProcessStreams) -> None:
        self._streams = streams

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None]:
        """Lend it for the block; at its end all is shown that a process has written which has ended."""
        loop = asyncio.get_running_loop()
        typing, seeing = map(asyncio.ensure_future, (self._type(), self._see()))
        loop.add_signal_handler(signal.SIGWINCH, self._resize)
        try:
            with _raw():
                self._resize()
                yield
                self._streams.has_ended()
                await asyncio.wait([seeing])
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            for task in (typing, seeing):
                task.cancel()
            await asyncio.wait([typing, seeing])

    async def _type(self) -> None:
        while data := await _read():
            await self._streams.write(data)

    async def _see(self) -> None:
        while data := await self._streams.read(_STDOUT):
            write_all(_STDERR, data)

    def _resize(self) -> None:
        try:
            columns, rows = os.get_terminal_size(_STDIN)
        except OSError:
            return
        self._streams.resize(rows, columns)
