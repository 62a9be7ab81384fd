"""``pybuild run -t``: a real pseudo-terminal on both sides."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time

import pytest

from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


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

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def status(self) -> int:
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


def test_a_shell_has_job_control_and_ctrl_c_is_its_own(pybuild: Pybuild, base: str) -> None:
    person = Person(pybuild.command("run", "-it", base, "sh"), pybuild.environment)
    person.expect(b"# ")
    person.type(b"echo $((6*7))\n")
    person.expect(b"42")
    # The program that gets the signal says itself that it is there.
    person.type(b"sh -c 'echo begun; exec sleep 600'\n")
    person.expect(b"begun\r\n")
    person.type(b"\x03")
    person.expect(b"# ")
    person.type(b"exit 3\n")
    assert person.status() == 3
    pybuild("rm", *pybuild("ps", "-aq").out.split())
