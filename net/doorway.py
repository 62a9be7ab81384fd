"""Lets connections in: not too many, not too many of one peer, and none that only sits there.

A connection costs memory from the moment that it is accepted, long before its peer has shown a
certificate or said a word. So it is counted from there on. One that takes too long to begin is
closed; where too many wait to begin, the one that waits longest goes, of the peer that has most of
them, so that whoever opens many crowds out its own. Where too many are open, one without a call has
to go before a new one is refused: a client opens another when it needs one.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import ssl
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Protocol

from pybuild.model.dataclass import dataclass

BACKLOG = (
    4096  # connections that the kernel keeps until we take them; net.core.somaxconn may be less
)
_PAUSE_S = 0.2  # when there are no descriptors, or no memory
FRESH_S = 1.0  # how long a connection may take to its next call before it counts as idle
_SWEEP_S = 30.0
_UCRED = struct.Struct("iII")
_MAPPED = b"\0" * 10 + b"\xff\xff"  # an IPv4 address in one of IPv6
_SUBSCRIBER = 8  # bytes of an IPv6 address: who has one has 2**64
# asyncio's TLS leaves a quarter of a mebibyte in a cycle when a handshake fails.
_FAILED_AT_ONCE = 20
_AT_ONCE = 32  # accepted before others have their turn


class Visit(Protocol):
    """A connection as the door sees it, whatever its protocol.

    Attributes:
        protocol: takes what comes, after TLS.
        begun: set when the other side has said what it comes for, or has gone before that.
        gone: set when the connection is closed.
    """

    @property
    def protocol(self) -> asyncio.BaseProtocol: ...
    @property
    def begun(self) -> asyncio.Event: ...
    @property
    def gone(self) -> asyncio.Event: ...

    def idle_since(self) -> float | None:
        """Return since when it asks for nothing; None while it does, or has not begun."""
        ...

    def leave(self) -> None:
        """Ask an idle client to come back another time."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The numbers of connections that a door admits.

    Attributes:
        connections: at once. machine: those from one machine, or of one user.
        waiting: those that have not begun; when there are more, the one that waits longest goes.
        begin_s: the time to begin, TLS and all.
        idle_s: how long a connection may stay that asks for nothing.
    """

    connections: int
    machine: int
    waiting: int
    begin_s: float
    idle_s: float


class _Visitor:
    """One connection, from its first moment."""

    def __init__(self, machine: str, visit: Visit, own: socket.socket) -> None:
        self.machine = machine
        self.visit = visit
        self._own = own

    @property
    def waits(self) -> bool:
        """Return whether it has not begun."""
        return not self.visit.begun.is_set()

    def throw_out(self) -> None:
        """End it as if the other side had, which every state of TLS and of a loop can bear."""
        with suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)


class Doorway:
    """Accepts what comes to one socket; *make* is called for each connection."""

    def __init__(
        self,
        make: Callable[[], Visit],
        admission: Admission,
        listener: socket.socket,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._make = make
        self._admission = admission
        self._listener = listener
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        # In the order of their coming: all, those that may not have begun, and those of each machine. Who
        # comes is not to cost more the more are there.
        self._visitors: dict[_Visitor, None] = {}
        self._waiting: dict[_Visitor, None] = {}
        self._of_machine: defaultdict[str, dict[_Visitor, None]] = defaultdict(dict)
        self._failed = 0
        self._staying: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._sweeper = asyncio.create_task(self._sweep(), name="sweep")
        self._open()

    def __len__(self) -> int:
        """Return the number of connections."""
        return len(self._visitors)

    def close(self) -> None:
        """Take no more, and give up those that have not begun."""
        self._sweeper.cancel()
        if self._listener.fileno() < 0:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for visitor in self._visitors:
            if visitor.waits:
                visitor.throw_out()

    async def closed(self) -> None:
        """Wait until `close` has been done and every connection is gone."""
        await asyncio.gather(self._sweeper, *self._staying, return_exceptions=True)

    def _open(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                own, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # what is full now, descriptors or memory, may have room then
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_S, self._open)
                return
            own.setblocking(False)
            machine = machine_of(own)
            if not self._has_room(machine):
                own.close()
                continue
            visitor = _Visitor(machine, self._make(), own)
            for among in (self._visitors, self._waiting, self._of_machine[machine]):
                among[visitor] = None
            task = asyncio.create_task(self._stay(visitor, own), name="connection")
            self._staying.add(task)
            task.add_done_callback(self._staying.discard)

    async def _stay(self, visitor: _Visitor, own: socket.socket) -> None:
        visit, limit_s = visitor.visit, self._admission.begin_s
        timer = self._loop.call_later(limit_s, visitor.throw_out)
        try:
            with suppress(OSError):
                await self._loop.connect_accepted_socket(
                    lambda: visit.protocol,
                    own,
                    ssl=self._tls,
                    ssl_handshake_timeout=limit_s if self._tls else None,
                )
                await visit.begun.wait()
                self._waiting.pop(visitor, None)
                timer.cancel()
                await visit.gone.wait()
        finally:
            timer.cancel()
            if self._tls is not None and visitor.waits:
                self._failed += 1
                if self._failed % _FAILED_AT_ONCE == 0:
                    gc.collect(1)
            visit.abort()
            self._forget(visitor)

    def _has_room(self, machine: str) -> bool:
        """Make room for one more, if that can be."""
        admission = self._admission
        waiting: list[_Visitor] = []
        if len(self._waiting) >= admission.waiting:  # some may have begun this moment
            waiting = [visitor for visitor in self._waiting if visitor.waits]
        if len(waiting) >= admission.waiting:
            most = Counter(visitor.machine for visitor in waiting).most_common(1)[0][0]
            longest = next(visitor for visitor in waiting if visitor.machine == most)
            longest.throw_out()
            self._forget(longest)
        of_peer = self._of_machine.get(machine, {})
        return self._has_place(of_peer, admission.machine) and self._has_place(
            self._visitors, admission.connections
        )

    def _forget(self, visitor: _Visitor) -> None:
        of_machine = self._of_machine[visitor.machine]
        for among in (self._visitors, self._waiting, of_machine):
            among.pop(visitor, None)
        if not of_machine:
            del self._of_machine[visitor.machine]

    def _has_place(self, among: Collection[_Visitor], most: int) -> bool:
        if len(among) < most:
            return True
        latest = self._loop.time() - FRESH_S
        idle = [
            (at, visitor) for visitor in among if (at := visitor.visit.idle_since()) is not None
        ]
        since, visitor = min(idle, key=lambda pair: pair[0], default=(latest + 1, None))
        if visitor is None or since > latest:
            return False
        visitor.visit.leave()
        self._forget(visitor)
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._admission.idle_s))
            latest = self._loop.time() - self._admission.idle_s
            for visitor in list(self._visitors):
                since = visitor.visit.idle_since()
                if since is not None and since <= latest:
                    visitor.visit.leave()


def machine_of(own: socket.socket) -> str:
    """Return the peer of an accepted socket: a user, a machine, a network of one subscriber.

    For counting, before anything is known of its owner.
    """
    if own.family == socket.AF_UNIX:
        return f"uid:{uid_of(own)}"
    try:
        host = own.getpeername()[0].partition("%")[0]
        if own.family == socket.AF_INET:
            return str(host)
        packed = socket.inet_pton(socket.AF_INET6, host)
    except (OSError, IndexError):
        return ""  # it has gone
    mapped = packed.startswith(_MAPPED)
    return packed[len(_MAPPED) :].hex() if mapped else packed[:_SUBSCRIBER].hex()


def uid_of(own: socket.socket) -> int:
    """Return the user at the other side of a Unix socket, as the kernel knows it."""
    credentials = own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[1])


async def listen_tcp(host: str | None, port: int, backlog: int) -> list[socket.socket]:
    """Listen on all addresses of *host*, or of this machine."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    )
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, place in dict.fromkeys(infos):
            try:
                bound.append(tcp_listener(family, place, backlog))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # a name may have addresses that this machine has not
        if missing is not None and not bound:
            raise missing
    except OSError:
        for own in bound:
            own.close()
        raise
    return bound


def tcp_listener(family: int, place: tuple[Any, ...], backlog: int) -> socket.socket:
    """Listen at one address. Raises OSError."""
    own = socket.socket(family, socket.SOCK_STREAM)
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        own.bind(place)
        own.listen(backlog)
    except OSError:
        own.close()
        raise
    return own
