"""``-H … attach`` against an engine of the test: signals, sizes, keys, and ends at the wrong moment [ENG-30…36]."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from pybuild.client.docker.commands import outcome
from pybuild.commandline import find
from pybuild.commandline.parser import HOST, TLS, parse
from tests.client.test_docker_requests import http_answer, whole_request

_WAIT_S = 60.0
_HIJACKED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
_FRAME = b"\x01\0\0\0\0\0\0\x04bye\n"


class FarContainer:
    """An engine that has one container, whose status will be 3.

    Args:
        tty: it has a terminal, and takes input.

    Attributes:
        on_attach: is called before an attach is answered.
        runs: whether it runs, as the next inspect has it.
        said: its output to those who attach; *ends*: and its end, else they wait.
        kills: the queries with which it was killed. sizes: those that its terminal was given.
        typed: pieces of its input.
        is_over: those who wait for its end are answered.
    """

    def __init__(self, folder: Path, *, tty: bool = False) -> None:
        self.url = f"unix://{folder}/s"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/s")
        self._listener.listen()
        self._config = {"OpenStdin": tty, "Tty": tty}
        self.is_over = threading.Event()
        self._streams: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.on_attach: Callable[[], None] = lambda: None
        self.runs, self.said, self.ends = True, b"", False
        self.kills: Queue[str] = Queue()
        self.sizes: Queue[str] = Queue()
        self.typed: Queue[bytes] = Queue()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                own, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(own,)))
                self._threads[-1].start()

    def _serve(self, own: socket.socket) -> None:
        with own, suppress(OSError):
            path, _, query = whole_request(own).split(b" ")[1].decode().partition("?")
            match path.rpartition("/")[2]:
                case "json":
                    shown = {"Id": "c", "Name": "/c", "Config": self._config}
                    shown["State"] = {"Running": self.runs}
                    own.sendall(http_answer("200 OK", json.dumps(shown).encode()))
                case "wait":
                    own.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                    self.is_over.wait(_WAIT_S)
                    own.sendall(b'{"StatusCode":3}')
                case "attach":
                    self.on_attach()
                    self._streams.append(own)
                    own.sendall(_HIJACKED + self.said)
                    while not self.ends and (data := own.recv(1 << 10)):
                        self.typed.put(data)
                case "kill":
                    own.sendall(http_answer("204 No Content", b""))
                    self.kills.put(query)
                    self.end()
                case _:
                    own.sendall(http_answer("200 OK", b""))
                    self.sizes.put(query)

    def end(self) -> None:
        """End; those who are attached hear it."""
        self.is_over.set()
        for one in self._streams:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.end()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(_WAIT_S)


@contextmanager
def _far(folder: Path, *, tty: bool = False) -> Generator[FarContainer]:
    far = FarContainer(folder, tty=tty)
    try:
        yield far
    finally:
        far.close()


def _attach(far: FarContainer) -> Any:
    known = find("attach")
    assert known is not None
    return outcome(parse(["-H", far.url, "c"], (*known.options, HOST, *TLS)), "attach")


def test_a_signal_before_it_is_attached_is_handed_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It ended the command, and the container went on [ENG-36]."""
    with _far(tmp_path) as far:
        far.on_attach = lambda: os.kill(os.getpid(), signal.SIGINT)
        assert _attach(far) == 3
        assert far.kills.get(timeout=_WAIT_S) == "signal=SIGINT"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_gives_up_an_engine_that_does_not_answer(tmp_path: Path) -> None:
    heard = threading.Event()

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        heard.wait(_WAIT_S)

    with _far(tmp_path) as far:
        far.on_attach = twice
        with pytest.raises(KeyboardInterrupt):
            _attach(far)
        heard.set()
        assert far.kills.empty()


@pytest.mark.parametrize("ends", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_that_ends_while_it_is_attached_to_is_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], ends: bool
) -> None:
    """Its output before its end is shown; where it had ended before, the engine waits for its next run."""
    with _far(tmp_path) as far:

        def stop() -> None:
            far.runs, far.ends, far.said = False, ends, _FRAME if ends else b""
            far.is_over.set()

        far.on_attach = stop
        assert _attach(far) == 3
    assert capfd.readouterr().out == ("bye\n" if ends else "")


@pytest.mark.slow
def test_a_terminal_has_our_size_takes_ctrl_c_and_is_left_by_its_keys(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with _far(tmp_path, tty=True) as far:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        client = subprocess.Popen(
            [sys.executable, "-m", "pybuild", "-H", far.url, "attach", "c"],
            stdin=theirs,
            stdout=theirs,
        )
        assert far.sizes.get(timeout=_WAIT_S) == "h=33&w=77"
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 40, 0, 0))
        client.send_signal(signal.SIGWINCH)
        assert far.sizes.get(timeout=_WAIT_S) == "h=20&w=40"
        os.write(ours, b"\x03")
        assert far.typed.get(timeout=_WAIT_S) == b"\x03"
        os.write(ours, b"\x10\x11")
        assert client.wait(_WAIT_S) == 0
        assert far.kills.empty()
    for fd in (ours, theirs):
        os.close(fd)
