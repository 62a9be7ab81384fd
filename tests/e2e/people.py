"""A person at a real pseudo-terminal, in which a command runs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from contextlib import suppress


class Person:
    """Somebody at a terminal: types, and waits for what the screen shows."""

    def __init__(
        self, words: list[str], environment: dict[str, str], size: tuple[int, int] = (24, 80)
    ) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("=4H", *size, 0, 0))
            os.execve(words[0], words, environment)
        self._screen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("=4H", rows, columns, 0, 0))

    def expect(self, text: bytes, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while text not in self._screen:
            assert time.monotonic() < end, self._screen
            if select.select([self._fd], [], [], 0.1)[0]:
                self._screen += os.read(self._fd, 4096)
        self._screen = self._screen.partition(text)[2]

    @property
    def screen(self) -> bytes:
        """All that was shown since what was expected last."""
        return self._screen

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def status(self) -> int:
        """Look at the screen to the end, and return the exit code."""
        with suppress(OSError):  # EIO: nobody has the terminal any more
            while data := os.read(self._fd, 4096):
                self._screen += data
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def hang_up(self) -> int:
        """Close the terminal, and return the exit code."""
        os.close(self._fd)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)
