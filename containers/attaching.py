"""Our standard streams at a process of a container, until it ends or we leave [ENG-34, ENG-36]."""

from __future__ import annotations

import marshal
import os
import select
import time

from pybuild.containers.lines import MESSAGE_BYTES, LocalLine
from pybuild.model.lightlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Generator
    from types import FrameType
    from typing import Any
else:
    import _signal as signal  # the C part; signal.py imports enum

_PIECE_BYTES = 1 << 15
"""The most that is read at once of our input, and that goes ahead of what the process takes."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_HANDED_ON = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Unable(Exception):
    """The monitor has no process beside which another could be started; nothing was read of our input."""


class Attached:
    """Somebody at a terminal, or in a pipe, who is attached to a process.

    Args:
        line: to its monitor.
        stdin: ours is its, to its end.
        terminal: the process has a terminal: ours is shown there as it is.
        keys: leave when these are typed; None: nothing leaves.
        proxies: signals go to the process, not to us.
        patience_s: the seconds between a signal to end and the one that cannot be refused; below 0
            there is none.
        is_heard: nothing is read of our input before the monitor has said something.

    Attributes:
        is_kept: it is started again, so that whoever was to remove it at its end does not.
    """

    def __init__(
        self,
        line: LocalLine,
        *,
        stdin: bool,
        terminal: bool,
        keys: bytes | None,
        proxies: bool = True,
        patience_s: float = -1.0,
        is_heard: bool = True,
    ) -> None:
        self._line = line
        self._is_heard = is_heard
        self._stdin = stdin
        self._terminal = terminal and os.isatty(0)
        self._keys = None
        if keys is not None and self._terminal:
            from pybuild.containers.detaching import DetachKeys

            self._keys = DetachKeys(keys)
        self._proxies = proxies and not self._terminal
        self._patience_s = patience_s
        self._signals: list[int] = []
        self._received: list[int] = []
        self._kill_at: float | None = None
        self._left = self.is_kept = False
        self._ahead = 0

    def say(self, *message: Any) -> None:
        """Say something to the monitor; one that has gone is noticed by `follow`."""
        with suppress(ConnectionError):
            self._line.send(marshal.dumps(message))

    def hand_on_first(self, number: int) -> bool:
        """Hand on a signal that came before anybody could follow; False: signals are not the process's."""
        if self._proxies:
            self._hand_on(number)
        return self._proxies

    def follow(self) -> int | None:
        """Return the status of the process when it has ended; None: we left.

        Raises:
            NotExecuted: its program cannot be executed. PybuildError: it cannot be had.
            Unable: the container does not run.
        """
        poller = select.poll()
        poller.register(self._line, select.POLLIN)
        with self._hearing_signals() as wakeup, self._raw_terminal():
            poller.register(wakeup, select.POLLIN)
            self._resize()
            reads = False
            while True:
                if reads != (self._stdin and self._is_heard and self._ahead < _PIECE_BYTES):
                    reads = not reads
                    if reads:
                        poller.register(0, select.POLLIN)
                    else:
                        poller.unregister(0)
                ready = poller.poll(self._patience())
                for fd, _ in ready:
                    if fd == wakeup:
                        with suppress(BlockingIOError):
                            os.read(wakeup, 4096)
                    elif fd == 0:
                        self._type()
                        if self._left:
                            return None
                    elif fd == self._line.fileno():
                        status = self._hear()
                        if status is not None:
                            return self._seen(status)
                while self._signals:
                    self._hand_on(self._signals.pop(0))
                if self._kill_at is not None and time.monotonic() >= self._kill_at:
                    self._kill_at = None
                    self.say("signal", int(signal.SIGKILL))

    def _patience(self) -> float | None:
        if self._kill_at is None:
            return None
        return max(0.0, self._kill_at - time.monotonic()) * 1000 + 1

    def _seen(self, status: int) -> int:
        """Return the status as a shell would have it: what does not catch a signal that ends others is killed."""
        if self._received and status == 128 + signal.SIGKILL:
            return 128 + self._received[-1]
        return status

    # --- streams ----------------------------------------------------------------------------------

    def _type(self) -> None:
        """Hand input on, or its end."""
        try:
            data = os.read(0, _PIECE_BYTES)
        except OSError:
            data = b""  # EIO: our terminal is gone
        if not data:
            self.say("eof")
            self._stdin = False
            return
        if self._keys is not None:
            data, self._left = self._keys.feed(data)
        if data:
            self.say("input", data)
            self._ahead += len(data)

    def _hear(self) -> int | None:
        """Show a piece of output; or return the status of the process."""
        try:
            data = self._line.recv(MESSAGE_BYTES)
        except ConnectionResetError:
            # It left before it had read all that we said; what it said to us comes behind that.
            data = self._line.recv(MESSAGE_BYTES)
        if not data:
            from pybuild.model.errors import EnvironmentFault

            raise EnvironmentFault(
                "the container's monitor has gone", hints=["pybuild ps -a shows what became of it"]
            )
        message = marshal.loads(data)
        self._is_heard = True
        match message:
            case ("output", int() as number, bytes() as piece):
                from pybuild.image.layer.writing import write_all

                write_all(number, piece)
            case ("taken",):
                self._ahead = 0
            case ("ended" | "kept" as word, int() as status):
                self.is_kept = word == "kept"
                return status
            case ("done", _):
                return 0
            case ("unable",):
                raise Unable
            case ("unexecuted", int() as status, str() as text):
                from pybuild.containers.starting import NotExecuted

                raise NotExecuted(text, status)
            case ("fault", *_):
                from pybuild.executor.workers.launch import error_of

                raise error_of(message)
            case _:
                pass
        return None

    # --- terminal and signals -----------------------------------------------------------------------

    def _resize(self) -> None:
        if self._terminal:
            with suppress(OSError):
                rows, columns = os.get_terminal_size(0)[::-1]
                self.say("resize", rows, columns)

    @contextmanager
    def _raw_terminal(self) -> Generator[None]:
        """Let keys go where they are to go, as they are pressed: Ctrl-C is the process's."""
        if not (self._terminal and self._stdin):
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)  # what was typed ahead is not lost
        try:
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    @contextmanager
    def _hearing_signals(self) -> Generator[int]:
        """Note signals for the block, and wake the poll with the descriptor for it."""
        read_end, write_end = os.pipe()
        for fd in (read_end, write_end):
            os.set_blocking(fd, False)
        numbers = [*_ENDING, *_HANDED_ON] if self._proxies else []
        numbers += [signal.SIGWINCH]

        def note(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)

        before: dict[int, Any] = {}
        wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        try:
            for number in numbers:
                before[number] = signal.signal(number, note)
            yield read_end
        finally:
            for heard, handler in before.items():
                signal.signal(heard, handler)
            signal.set_wakeup_fd(wakeup)
            os.close(read_end)
            os.close(write_end)

    def _hand_on(self, number: int) -> None:
        """Hand a signal to the process; the second one to end it cannot be refused."""
        if number == signal.SIGWINCH:
            self._resize()
            return
        if number in _ENDING and not set(_ENDING).isdisjoint(self._received):
            self._received.append(number)
            self.say("signal", int(signal.SIGKILL))
            return
        self._received.append(number)
        self.say("end" if self._patience_s >= 0 else "signal", number)
        if number in _ENDING and self._patience_s >= 0:
            self._kill_at = time.monotonic() + self._patience_s


def terminal_size() -> tuple[int, int]:
    """Return the rows and columns of our terminal; nothing of either where there is none."""
    try:
        columns, rows = os.get_terminal_size(0)
    except OSError:
        return (0, 0)
    return (rows, columns)
