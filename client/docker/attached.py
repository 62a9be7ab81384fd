"""Our standard streams at a process far away, until it ends or we leave [ENG-30…36].

What only some systems have, terminals and their signals, is used where it is there.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from pybuild.client.docker.pipes import Pipe, reading
from pybuild.containers.detaching import DetachKeys
from pybuild.image.layer.writing import write_all
from pybuild.model.errors import EnvironmentFault

_HEADER = struct.Struct(">BxxxL")
_PIECE_BYTES = 1 << 15
_STDERR = 2
_SYSTEM = 3
_ENDED_S = 1.0
_ENDING = ("SIGTERM", "SIGINT")
_HANDED_ON = (*_ENDING, "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


class FarStreams:
    """Somebody at a terminal, or in a pipe, and the stream of a process.

    Args:
        pipe: the stream, as an engine gave it.
        stdin: our input is its, to its end.
        tty: the process has a terminal; its output comes as it is.
        keys: leave when these are typed at a terminal.
        on_size: told of the rows and columns of our terminal.

    Attributes:
        left: the keys were typed.
    """

    def __init__(
        self,
        pipe: Pipe,
        *,
        stdin: bool,
        tty: bool,
        keys: bytes,
        on_size: Callable[[int, int], None] | None = None,
    ) -> None:
        self._pipe = pipe
        self._stdin = stdin
        self._tty = tty
        self._terminal = is_terminal(stdin=stdin, tty=tty)
        self._keys = DetachKeys(keys if self._terminal else b"")
        self._on_size = on_size if tty and os.isatty(1) else None
        self.left = False

    def follow_ended(self) -> None:
        """Show what a process has left that has ended; where it had ended before, the stream is its next run's."""
        leaving = threading.Timer(_ENDED_S, self._leave)
        leaving.start()
        try:
            self.follow()
        finally:
            leaving.cancel()

    def _leave(self) -> None:
        self.left = True
        self._pipe.close()

    def follow(self) -> None:
        """Carry both ways until the process's output has ended, or we left: `left` says so."""
        sizes = ["SIGWINCH"] if self._on_size is not None else []
        with self._raw_terminal(), _heard(sizes, self._resized):
            self._resize()
            if self._stdin:
                threading.Thread(target=self._type, daemon=True).start()
            try:
                self._show()
            except OSError as error:
                if isinstance(error, ConnectionError) and not self.left:
                    raise EnvironmentFault("lost the engine") from error
                if not self.left:
                    raise
            finally:
                self._pipe.close()

    def _type(self) -> None:
        with suppress(OSError):
            while data := os.read(0, _PIECE_BYTES):
                data, self.left = self._keys.feed(data)
                if data:
                    self._pipe.sendall(data)
                if self.left:
                    self._leave()
                    return
        self._pipe.end_input()

    def _show(self) -> None:
        if self._tty:
            while data := self._pipe.receive():
                write_all(1, data)
        else:
            show_frames(self._pipe)

    # --- terminal and signals -----------------------------------------------------------------------

    def _resize(self, *_: Any) -> None:
        if self._on_size is not None:
            with suppress(OSError):
                columns, rows = os.get_terminal_size(1)
                self._on_size(rows, columns)

    @contextmanager
    def _raw_terminal(self) -> Generator[None]:
        if not self._terminal or sys.platform == "win32":
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
        try:
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def _resized(self, _number: int) -> None:
        threading.Thread(target=self._resize, daemon=True).start()


class FarSignals:
    """Signals that go to a process far away, heard before it can be reached, so that none ends us in its place.

    Args:
        send: sends one by its name.
        patience_s: the seconds between one to end and the one that cannot be refused; None: there is none.

    Attributes:
        received: those that came.
    """

    def __init__(self, send: Callable[[str], None], patience_s: float | None = None) -> None:
        self._send = send
        self._patience_s = patience_s
        self._reached = threading.Event()
        self.received: list[int] = []

    @contextmanager
    def heard(self) -> Generator[None]:
        """Hear them for the block."""
        with _heard(_HANDED_ON, self._hear):
            yield

    def reach(self) -> None:
        """Hand on what has come, and what comes from now on."""
        self._reached.set()

    def _hear(self, number: int) -> None:
        name = signal.Signals(number).name
        again = name in _ENDING and bool(self.received)
        if again and not self._reached.is_set():
            raise KeyboardInterrupt  # nobody can be reached, and that takes too long
        self.received.append(number)
        # Asking takes a while, and nothing may be asked inside of a handler.
        threading.Thread(target=self._hand_on, args=(name, again), daemon=True).start()

    def _hand_on(self, name: str, again: bool) -> None:
        self._reached.wait()
        self._send("SIGKILL" if again else name)
        if name in _ENDING and not again and self._patience_s is not None:
            time.sleep(self._patience_s)
            self._send("SIGKILL")


@contextmanager
def _heard(names: Iterable[str], act: Callable[[int], None]) -> Generator[None]:
    """Call *act* for each signal of these names that this system has."""
    before: dict[int, Any] = {}

    def hear(number: int, _frame: FrameType | None) -> None:
        act(number)

    try:
        for name in names:
            if (known := getattr(signal, name, None)) is not None:
                before[known] = signal.signal(known, hear)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_terminal(*, stdin: bool, tty: bool) -> bool:
    """Return whether what is typed at our terminal is typed at the process's: its keys make no signals here."""
    return tty and stdin and os.isatty(0)


def show_frames(pipe: Pipe) -> None:
    """Write a stream of frames to our two outputs [ENG-32].

    Raises:
        EnvironmentFault: the engine says in it that it failed.
    """
    file = reading(pipe)
    while len(head := file.read(_HEADER.size)) == _HEADER.size:
        number, size = _HEADER.unpack(head)
        data = file.read(size)
        if number == _SYSTEM:
            raise EnvironmentFault(data.decode("utf-8", "replace"))
        write_all(_STDERR if number == _STDERR else 1, data)
