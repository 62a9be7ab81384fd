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


def test_keys_of_ones_own_leave_and_what_is_inside_hears_of_sizes_and_of_ctrl_c(
    pybuild: Pybuild, base: str
) -> None:
    """[ENG-36, CTR-22]"""
    traps = "trap 'busybox stty size' WINCH; trap 'exit 9' INT"
    script = f"{traps}; echo ready; while :; do sleep 0.1; done"
    options = ("--rm", "-it", "--name", "one", "--detach-keys", "ctrl-a,q")
    words = pybuild.command("run", *options, base, "sh", "-c", script)
    person = Person(words, pybuild.environment)
    person.expect(b"ready")
    person.resize(20, 70)
    person.expect(b"20 70")
    person.type(b"\x10\x11\x01q")  # the first two are input here
    assert person.status() == 0
    person = Person(pybuild.command("exec", "-it", "one", "sh"), pybuild.environment)
    person.expect(b"# ")
    person.type(b"sh -c 'echo begun; exec sleep 600'\n")
    person.expect(b"begun\r\n")
    person.type(b"\x03")
    person.expect(b"# ")
    person.resize(30, 60)
    person.type(b'while [ "$(busybox stty size)" != "30 60" ]; do sleep 0.1; done\n')
    person.type(b"echo as $((6*7)); exit 4\n")
    person.expect(b"as 42")
    assert person.status() == 4
    person = Person(pybuild.command("attach", "one"), pybuild.environment)
    person.expect(b"24 80")  # as large as whoever is attached now
    person.type(b"\x03")
    assert person.status() == 9
    pybuild("rm", "-f", "one", code=None)  # which its monitor may have done already
    assert pybuild("ps", "-aq").out == ""
