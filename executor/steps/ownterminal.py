"""Lends a step a terminal of its own: ``pybuild run -t``."""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from collections.abc import Generator
from contextlib import contextmanager, suppress
from fcntl import ioctl

_CHUNK = 1 << 16


@contextmanager
def own_terminal() -> Generator[tuple[int, int, int]]:
    """Give the three standard streams of a new terminal that is shown on ours.

    Keys go there as they are pressed (ours is raw meanwhile, so Ctrl-C is the step's), its size
    follows ours. Must be entered inside a running event loop, with our standard input a terminal.
    """
    loop = asyncio.get_running_loop()
    master, slave = os.openpty()
    before = termios.tcgetattr(0)

    def resize() -> None:
        with suppress(OSError):
            ioctl(slave, termios.TIOCSWINSZ, ioctl(0, termios.TIOCGWINSZ, bytes(8)))

    def from_keys() -> None:
        _pass_on(0, master)

    def to_screen() -> None:
        _pass_on(master, 1)

    resize()
    tty.setraw(0)
    loop.add_reader(0, from_keys)
    loop.add_reader(master, to_screen)
    loop.add_signal_handler(signal.SIGWINCH, resize)
    try:
        yield slave, slave, slave
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_reader(0)
        loop.remove_reader(master)
        os.close(slave)
        _drain(master)
        os.close(master)
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _pass_on(source: int, target: int) -> None:
    with suppress(OSError):  # EIO: the other side has hung up; the step's end tells us too
        data = memoryview(os.read(source, _CHUNK))
        while data:
            data = data[os.write(target, data) :]


def _drain(master: int) -> None:
    """Show the step's last output, which we had no turn to read."""
    os.set_blocking(master, False)
    with suppress(OSError):
        while data := os.read(master, _CHUNK):
            os.write(1, data)
