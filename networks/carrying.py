"""Published ports carried to the container by this process, where no packet filter leads there [NET-24].

So what came to ``::1``, or by IP version 6 to a container that has none; without a packet filter, all.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import struct
from functools import partial

from pybuild.networks.events import READ, WRITE
from pybuild.networks.ports import accept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.networks.events import Events
    from pybuild.networks.ports import HeldPort

_PIECE_BYTES = 1 << 16
_AT_ONCE = 64
_MOST_SENDERS = 1024
_SENDER_S = 90.0
_PAUSE_S = 1.0
"""So long nobody is let in where no descriptor is left: those who wait would be seen again and again."""
_LOOK_S, _MOST_LOOKS = 0.05, 200
_TIOCOUTQ = 0x5411
_CLOSED = 7
"""The state of a connection that the other end has broken off, the first byte of what TCP tells of it."""
_NONBLOCK = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC


def carry(events: Events, held: HeldPort, address: Callable[[], str]) -> None:
    """Serve a port from now on.

    Args:
        address: returns the container's of now, "": it has none.
    """
    fd = held.socket.fileno()
    if held.port.protocol == "udp":
        events.watch(fd, _Datagrams(events, held, address).hear)
    elif held.port.protocol == "tcp":

        def hear() -> None:
            if not _accept(events, held, address()):
                events.forget(fd)
                events.after(_PAUSE_S, held, lambda: events.watch(fd, hear))

        events.watch(fd, hear)


def end(events: Events, held: HeldPort) -> None:
    """Take nothing more for a port whose socket is about to be closed; what was taken goes on."""
    events.forget(held.socket.fileno())
    events.take_back(held)


def _accept(events: Events, held: HeldPort, address: str) -> bool:
    """Take connections; return whether there are descriptors for more."""
    for _ in range(_AT_ONCE):
        try:
            client = accept(held.socket)
        except OSError as error:
            return error.errno not in (errno.EMFILE, errno.ENFILE)
        if not address:
            _break_off(events, client)
            continue
        try:
            server = _socket.socket(_family(address), _socket.SOCK_STREAM | _NONBLOCK)
        except OSError:
            _break_off(events, client)
            return False
        try:
            server.connect((address, held.port.to_port))
        except BlockingIOError:
            pass
        except OSError:
            _break_off(events, client)
            server.close()
            continue
        _Connection(events, client, server).begin()
    return True


class _Connection:
    """Two sockets, each of which gets what the other has said; each way ends by itself."""

    def __init__(self, events: Events, client: _socket.socket, server: _socket.socket) -> None:
        self._events = events
        self._ways = (_Way(client, server), _Way(server, client))
        self._server = server

    def begin(self) -> None:
        """Wait for the server, and then for either.

        A client that has said all before the server has answered would else end the connection: to shut down
        one way of a socket that is still connecting takes the attempt back.
        """
        self._events.watch(self._server.fileno(), self._watch, WRITE)

    def _watch(self) -> None:
        """Wait for what can go on; nothing more is taken while the other end takes none."""
        for way, back in (self._ways, self._ways[::-1]):
            wishes = (0 if way.rest or way.has_ended else READ) | (WRITE if back.rest else 0)
            fd = way.source.fileno()
            if wishes:
                self._events.watch(fd, self._go_on, wishes)
            elif back.is_done:
                self._events.forget(fd)
            else:  # the kernel tells all the same that it was broken off
                self._events.watch(fd, partial(self._break, back), 0)

    def _break(self, way: _Way) -> None:
        """Note that who is at the end of a way hears no more; what they have said before goes on."""
        way.break_off()
        self._go_on()

    def _go_on(self) -> None:
        for way, back in (self._ways, self._ways[::-1]):
            if way.go_on():
                back.is_broken = True  # what looks like its end is none
        if all(way.is_done for way in self._ways):
            self._close()
        else:
            self._watch()

    def _close(self) -> None:
        is_broken = any(way.is_broken for way in self._ways)
        for way in self._ways:
            self._events.forget(way.source.fileno())
        for way in self._ways:
            if is_broken:
                _break_off(self._events, way.source)
            else:
                way.source.close()


class _Way:
    """One direction: what was read and is still to be written.

    Attributes:
        is_broken: it was not ended, but broken off at either end.
    """

    def __init__(self, source: _socket.socket, target: _socket.socket) -> None:
        self.source = source
        self._target = target
        self.rest = b""
        self.has_ended = False
        self.is_done = False
        self.is_broken = False

    def go_on(self) -> bool:
        """Carry what can be; return whether the other end was found to have broken off the connection.

        What that end has said before can still be read.
        """
        was_reset = False
        if self.is_done:
            return False
        if not self.rest and not self.has_ended:
            try:
                self.rest = self.source.recv(_PIECE_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                self.is_broken = True
            self.has_ended = not self.rest
        if self.rest:
            try:
                self.rest = self.rest[self._target.send(self.rest) :]
            except BlockingIOError:
                return False
            except OSError as error:
                was_reset = error.errno != errno.EPIPE  # else it had ended what it said before
                self.break_off()
        if self.has_ended and not self.rest and not self.is_done:
            self.is_done = True
            if not self.is_broken:  # else the other end hears of that, not of an end
                try:
                    self._target.shutdown(_socket.SHUT_WR)
                except OSError:
                    pass  # it has gone by itself
        return was_reset

    def break_off(self) -> None:
        """Carry no more: nobody takes it."""
        self.rest = b""
        self.has_ended = self.is_done = self.is_broken = True


def _break_off(events: Events, socket: _socket.socket, before: int = 0, looks: int = 0) -> None:
    """Break off a connection, once all that was sent has come there or nothing more does."""
    try:
        unsent = int(struct.unpack("i", fcntl.ioctl(socket.fileno(), _TIOCOUTQ, bytes(4)))[0])
        if socket.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 1)[0] == _CLOSED:
            unsent = 0  # nobody takes it any more
        looks = looks + 1 if unsent == before else 0
        if unsent and looks < _MOST_LOOKS:
            events.after(_LOOK_S, socket, partial(_break_off, events, socket, unsent, looks))
            return
        socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # it was broken off already
    socket.close()


class _Datagrams:
    """Datagrams to a port, and back to those who sent them."""

    def __init__(self, events: Events, held: HeldPort, address: Callable[[], str]) -> None:
        self._events = events
        self._held = held
        self._address = address
        self._senders: dict[Any, tuple[_socket.socket, str]] = {}

    def hear(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, sender = self._held.socket.recvfrom(_PIECE_BYTES)
            except OSError:
                return
            socket = self._connected(sender, self._address())
            if socket is None:
                continue
            self._events.after(_SENDER_S, socket, partial(self._drop, sender))
            try:
                socket.send(data)
            except OSError:
                pass  # a datagram may be lost

    def _connected(self, sender: Any, address: str) -> _socket.socket | None:
        """Return the socket for a sender, connected to the container where that is now; None: none can be had."""
        known = self._senders.get(sender)
        if known is not None:
            if known[1] == address:
                return known[0]
            self._events.take_back(known[0])
            self._drop(sender)
        if not address or len(self._senders) >= _MOST_SENDERS:
            return None
        try:
            socket = _socket.socket(_family(address), _socket.SOCK_DGRAM | _NONBLOCK)
        except OSError:
            return None  # no descriptor is left
        try:
            socket.connect((address, self._held.port.to_port))
        except OSError:
            socket.close()
            return None
        self._senders[sender] = socket, address
        self._events.watch(socket.fileno(), lambda: self._answer(socket, sender))
        return socket

    def _answer(self, socket: _socket.socket, sender: Any) -> None:
        try:
            data = socket.recv(_PIECE_BYTES)
            self._held.socket.sendto(data, sender)
        except OSError:
            pass  # nobody listens there, or who asked is gone

    def _drop(self, sender: Any) -> None:
        known = self._senders.pop(sender, None)
        if known is not None:
            self._events.forget(known[0].fileno())
            known[0].close()


def _family(address: str) -> int:
    return int(_socket.AF_INET6 if ":" in address else _socket.AF_INET)
