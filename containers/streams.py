"""The streams of a process in a container, and those who are attached to them [ENG-32, ENG-34, ENG-35]."""

from __future__ import annotations

import fcntl
import marshal
import os
import select
import sys
import termios
from functools import partial

from pybuild.containers.loop import Loop, Timer
from pybuild.containers.order import StreamAttachment
from pybuild.executor.zygote import syscalls, terminals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as RawSocket
    from collections.abc import Callable
    from typing import Any

PIECE_BYTES = 1 << 16
_MOST_QUEUED_BYTES = 1 << 20
_PATIENCE_S = 60.0
STDOUT, STDERR = 1, 2
READABLE, WRITABLE = 0o644, 0o622
"""The modes of its pipes: any user in it may open them again, as /dev/stdin and /dev/stdout."""


class AttachedClient:
    """Somebody at the other end of a socket of the monitor.

    Attributes:
        attachment: of the streams that it is attached to; None where it just asks for something.
        is_gone: nothing can be sent any more.
        taken: how many messages of those that had to wait were taken.
    """

    def __init__(self, loop: Loop, socket: RawSocket) -> None:
        self._loop = loop
        self.socket = socket
        self.attachment: StreamAttachment | None = None
        self.is_gone = False
        self.taken = 0
        self.on_drained: Callable[[], None] = lambda: None
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._act: Callable[[int], None] = lambda events: None
        self._closes = False
        self._was_full = False

    def watch(self, act: Callable[[int], None]) -> None:
        self._act = act
        self._loop.watch(self.socket.fileno(), self._ready)

    @property
    def is_full(self) -> bool:
        return self._queued_bytes >= _MOST_QUEUED_BYTES

    @property
    def is_drained(self) -> bool:
        return self.is_gone or not self._queue

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message, at once or as soon as there is room for it."""
        if self.is_gone:
            return
        data = marshal.dumps(message)
        if self._queue or not self._sent(data):
            self._queue.append(data)
            self._queued_bytes += len(data)
            self._was_full = self._was_full or self.is_full
            self._register()

    def close(self) -> None:
        """Let go of it when all is sent."""
        self._closes = True
        if self.is_drained:
            self.abandon()

    def abandon(self) -> None:
        """Let go of it now."""
        if not self.is_gone:
            self.is_gone = True
            self._loop.forget(self.socket.fileno())
            self.socket.close()

    def _sent(self, data: bytes) -> bool:
        try:
            self.socket.send(data)
        except BlockingIOError:
            return False
        except OSError:
            self.abandon()
        return True

    def _register(self) -> None:
        if not self.is_gone:
            events = select.POLLIN | (select.POLLOUT if self._queue else 0)
            self._loop.watch(self.socket.fileno(), self._ready, events)

    def _ready(self, events: int) -> None:
        if events & select.POLLOUT:
            self._flush()
        if not self.is_gone and events & ~select.POLLOUT:
            self._act(events)

    def _flush(self) -> None:
        while self._queue and not self.is_gone:
            if not self._sent(self._queue[0]):
                return
            self._queued_bytes -= len(self._queue.pop(0))
            self.taken += 1
        if self._closes:
            self.abandon()
        else:
            self._register()
        if self._was_full or self.is_gone:  # however many turns it took since
            self._was_full = False
            self.on_drained()


class Streams:
    """A process's standard streams at our end: pipes, or a terminal.

    Args:
        log: takes each piece of output first.
        take: reads a piece of it from a pipe.
        once: standard input ends when the first that was attached to it has left.
        patience_s: how long a client that takes nothing holds the process up, if it is not one that is waited for.

    Attributes:
        on_input_end: is called when our end of standard input is closed, for who has another of it.
    """

    def __init__(
        self,
        loop: Loop,
        log: Callable[[int, bytes], None],
        take: Callable[[int, int], bytes] | None = None,
        *,
        once: bool,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._loop = loop
        self._log = log
        self._take = take
        self._once = once
        self._patience_s = patience_s
        self._patience: Timer | None = None
        self._outputs: dict[int, int] = {}
        self._input = -1
        self._pending = b""
        self._ends_input = False
        self._has_no_input = False
        self._feeding: list[AttachedClient] = []
        self.terminal = -1
        self._size: tuple[int, int] | None = None  # of a terminal that is still to come
        self.clients: list[AttachedClient] = []
        self.on_input_end: Callable[[], None] = lambda: None

    def add_output(self, fd: int, number: int) -> None:
        """Take over an end that can be read and does not block."""
        self._outputs[fd] = number
        self._loop.watch(fd, partial(self._read_once, fd))

    def add_input(self, fd: int) -> None:
        """Take over the end of standard input that can be written to and does not block."""
        self._input = fd

    def add_terminal(self, fd: int) -> None:
        """Take over the other end of its terminal."""
        os.set_blocking(fd, False)
        self.terminal = self._input = fd
        if self._size is not None:
            self.resize(*self._size)
        self.add_output(fd, STDOUT)
        self._write(0)  # what was typed before it was there

    def descriptors(self) -> tuple[int, ...]:
        """Return those that are ours alone."""
        return (*self._outputs, *([self._input] if self._input >= 0 else []))

    @property
    def outputs(self) -> dict[int, int]:
        """Our ends of its outputs that are open, by their numbers."""
        return {number: fd for fd, number in self._outputs.items()}

    @property
    def is_feeding(self) -> bool:
        """Whether something is still to be written to standard input."""
        return bool(self._pending)

    @property
    def input(self) -> int:
        """The end of standard input that is a pipe; -1: there is none, or it has ended."""
        return -1 if self._input == self.terminal else self._input

    # --- output -----------------------------------------------------------------------------------

    def _read_once(self, fd: int, _events: int) -> None:
        self._read(fd)

    def _read(self, fd: int) -> int:
        """Take a piece of output; return how many bytes there were."""
        try:
            if self._take is None or fd == self.terminal:
                data = os.read(fd, PIECE_BYTES)
            else:
                data = self._take(self._outputs[fd], fd)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""  # EIO: nobody has the terminal open any more
        if not data:
            self._end_output(fd)
            return 0
        number = self._outputs[fd]
        self._log(number, data)
        was_held_up = self._is_held_up
        for client in list(self.clients):
            self._pass_on(client, number, data)
        if self._is_held_up and not was_held_up:
            for output in self._outputs:
                self._loop.forget(output)
            self._be_patient()
        return len(data)

    @property
    def _is_held_up(self) -> bool:
        """Whether somebody has to take something before more is read."""
        return any(client.is_full and not client.is_gone for client in self.clients)

    def _be_patient(self) -> None:
        """Leave clients behind that take nothing for a while: the process is not theirs alone."""
        known = {
            client: client.taken
            for client in self.clients
            if client.attachment and not client.attachment.waits and not client.is_drained
        }
        if known and self._patience is None:
            self._patience = self._loop.after(self._patience_s, partial(self._leave_behind, known))

    def _leave_behind(self, known: dict[AttachedClient, int]) -> None:
        self._patience = None
        for client, taken in known.items():
            if client in self.clients and client.taken == taken and not client.is_drained:
                client.abandon()
                self.leave(client)
        self._be_patient()

    def _pass_on(self, client: AttachedClient, number: int, data: bytes) -> None:
        attachment = client.attachment
        if attachment is None or not (attachment.stdout if number == STDOUT else attachment.stderr):
            return
        client.send(("output", number, data))

    def _go_on(self) -> None:
        """Read again, when nobody has to be waited for."""
        if not self._is_held_up:
            for fd in self._outputs:
                self._loop.watch(fd, partial(self._read_once, fd))
            if self._pending and self.terminal >= 0:
                self._watch_input()

    def _end_output(self, fd: int) -> None:
        self._loop.forget(fd)
        del self._outputs[fd]
        if fd == self.terminal:
            self.terminal = -1
            self._input = -1
            self._has_no_input = True
        os.close(fd)

    def drain(self) -> None:
        """Take what is there, and no more: what a process left may hold its streams open, and fill them."""
        for fd in list(self._outputs):
            there = max(_bytes_there(fd), PIECE_BYTES)
            while fd in self._outputs and there > 0 and (count := self._read(fd)):
                there -= count
            if fd in self._outputs:
                self._end_output(fd)
        self.close_input()
        self._be_patient()

    # --- input ------------------------------------------------------------------------------------

    def attach(self, client: AttachedClient, attachment: StreamAttachment) -> None:
        client.attachment = attachment
        client.on_drained = self._go_on
        self.clients.append(client)

    def leave(self, client: AttachedClient) -> None:
        """Let somebody go; with the first who was attached to it, standard input ends."""
        if client in self.clients:
            self.clients.remove(client)
            self._go_on()
            if self._once and client.attachment is not None and client.attachment.stdin:
                self.end_input()

    def feed(self, client: AttachedClient, data: bytes) -> None:
        """Hand input on, and tell *client* when the process has room for more; till then none should come."""
        if client.attachment is None or not client.attachment.stdin or self._has_no_input:
            return
        self._pending += data
        self._feeding.append(client)
        self._write(0)

    def end_input(self) -> None:
        """Let the process read the end, when it has read all [ENG-34].

        A terminal has none, and what is to outlast those who are attached waits for the next of them.
        """
        if self._once and self.terminal < 0:
            self._ends_input = True
            self._write(0)

    def _write(self, _events: int) -> None:
        while self._pending and self._input >= 0:
            try:
                self._pending = self._pending[os.write(self._input, self._pending) :]
            except BlockingIOError:
                self._watch_input()
                return
            except OSError:
                self.close_input()  # nobody reads it any more
        if self._ends_input:
            self.close_input()
        elif self._input >= 0 and self._input != self.terminal:
            self._loop.forget(self._input)
        elif self.terminal >= 0 and self._is_held_up:
            self._loop.forget(self.terminal)
        elif self.terminal >= 0:
            self._loop.watch(self.terminal, partial(self._both, self.terminal))
        if not self._pending:
            feeding, self._feeding = self._feeding, []
            for client in feeding:
                client.send(("taken",))

    def _watch_input(self) -> None:
        if self._input == self.terminal:
            fd = self.terminal
            events = select.POLLOUT if self._is_held_up else select.POLLIN | select.POLLOUT
            self._loop.watch(fd, partial(self._both, fd), events)
        else:
            self._loop.watch(self._input, self._write, select.POLLOUT)

    def _both(self, fd: int, events: int) -> None:
        if events & select.POLLOUT:
            self._write(events)
        if events & ~select.POLLOUT and fd in self._outputs:
            self._read(fd)

    def close_input(self) -> None:
        """Let the process read the end now."""
        self._has_no_input = True
        self._pending = b""
        if self._input >= 0 and self._input != self.terminal:
            self._loop.forget(self._input)
            syscalls.close_quietly(self._input)
            self._input = -1
            self.on_input_end()
        self._input = -1

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal the size at which it is shown."""
        if self.terminal < 0:
            self._size = rows, columns
            return
        try:
            terminals.resize(self.terminal, (rows, columns))
        except OSError:
            pass  # it has ended


def _bytes_there(fd: int) -> int:
    """Return how many bytes can be read at once."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0  # a terminal that nobody has open any more
