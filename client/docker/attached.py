"""Our standard streams at a process far away, until it ends or we leave [ENG-30…36].

What only some systems have, terminals and their signals, is used where it is there.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Generator
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
_HANDED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


class FarStreams:
    """Somebody at a terminal, or in a pipe, and the stream of a process.

    Args:
        pipe: the stream, as an engine gave it.
        stdin: our input is its, to its end.
        tty: the process has a terminal; its output comes as it is.
        keys: leave when these are typed at a terminal.
        on_signal: hands a signal on; None: signals are ours.
        on_size: told of the rows and columns of our terminal.

    Attributes:
        left: the keys were typed.
        received: the signals that were handed on.
    """

    def __init__(
        self,
        pipe: Pipe,
        *,
        stdin: bool,
        tty: bool,
        keys: bytes,
        on_signal: Callable[[str], None] | None = None,
        on_size: Callable[[int, int], None] | None = None,
    ) -> None:
        self._pipe = pipe
        self._stdin = stdin
        self._tty = tty
        self._terminal = tty and stdin and os.isatty(0)
        self._keys = DetachKeys(keys if self._terminal else b"")
        self._on_signal = None if self._terminal else on_signal
        self._on_size = on_size if tty and os.isatty(1) else None
        self.left = False
        self.received: list[int] = []

    def follow(self) -> None:
        """Carry both ways until the process's output has ended, or we left: `left` says so."""
        with self._raw_terminal(), self._signals():
            if self._on_size is not None:
                self._resize()
            if self._stdin:
                threading.Thread(target=self._type, daemon=True).start()
            try:
                self._show()
            except ConnectionError as error:
                if not self.left:
                    raise EnvironmentFault("lost the engine") from error
            finally:
                self._pipe.close()

    def _type(self) -> None:
        with suppress(OSError):
            while data := os.read(0, _PIECE_BYTES):
                data, self.left = self._keys.feed(data)
                if data:
                    self._pipe.sendall(data)
                if self.left:
                    self._pipe.close()
                    return
        self._pipe.end_input()

    def _show(self) -> None:
        if self._tty:
            while data := self._receive():
                write_all(1, data)
            return
        show_frames(self._pipe)

    def _receive(self) -> bytes:
        try:
            return self._pipe.receive()
        except OSError:
            if self.left:
                return b""
            raise

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

    @contextmanager
    def _signals(self) -> Generator[None]:
        before: dict[int, Any] = {}

        def hear(number: int, _frame: FrameType | None) -> None:
            # Asking takes a while, and nothing may be asked inside of a handler.
            threading.Thread(target=self._heard, args=(number,), daemon=True).start()

        names = [*(_HANDED_ON if self._on_signal else ()), *(["SIGWINCH"] if self._on_size else [])]
        try:
            for name in names:
                if (known := getattr(signal, name, None)) is not None:
                    before[known] = signal.signal(known, hear)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int) -> None:
        name = signal.Signals(number).name
        if name == "SIGWINCH":
            self._resize()
        elif self._on_signal is not None:
            self._on_signal(name)


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
