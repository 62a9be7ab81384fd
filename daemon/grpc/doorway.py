"""Lets connections in: not too many, not too many of one peer, and none that only sits there.

A connection costs memory from the moment that it is accepted, long before its peer has shown a
certificate or said a word. So it is counted from there on. One that takes too long to begin is
closed; where too many wait to begin, the one that waits longest goes, of the peer that has most of
them, so that whoever opens many crowds out its own. Where too many are open, one without a call has
to go before a new one is refused: a client opens another when it needs one.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

from pybuild.daemon.grpc.peer import machine_of
from pybuild.daemon.grpc.server import GrpcServer
from pybuild.daemon.grpc.sockets import SocketProtocol
from pybuild.daemon.grpc.status import Code, RpcError

_PAUSE_S = 0.2  # when there are no descriptors, or no memory
_FRESH_S = 1.0  # how long a connection may take to its next call before it counts as idle
_SWEEP_S = 30.0
_AT_ONCE = 32  # accepted before others have their turn


class Visitor:
    """One connection, from its first moment."""

    def __init__(self, machine: str, protocol: SocketProtocol, own: socket.socket) -> None:
        self.machine = machine
        self.protocol = protocol
        self._own = own

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return not self.protocol.begun.is_set()

    def idle_since(self) -> float | None:
        """Return since when it has had no call; None while it has one, or has not begun."""
        link = self.protocol.link
        return None if self.waits or link is None or link.flows else link.used_at

    def leave(self) -> None:
        """Ask an idle client to come back another time."""
        link = self.protocol.link
        if link is not None:
            link.connection.go_away()
            link.close(RpcError(Code.UNAVAILABLE, "the connection was idle"))

    def throw_out(self) -> None:
        """End it as if the other side had, which every state of TLS and of a loop can bear."""
        with suppress(OSError):
            self._own.shutdown(socket.SHUT_RDWR)


class Doorway:
    """Accepts what comes to one socket, for one server."""

    def __init__(
        self, server: GrpcServer, listener: socket.socket, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server = server
        self._listener = listener
        self._tls = tls
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._visitors: dict[Visitor, None] = {}  # in the order of their coming
        self._staying: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._sweeper = asyncio.create_task(self._sweep(), name="sweep")
        self._open()

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._visitors)

    def close(self) -> None:
        """Take no more, and give up those that have not begun."""
        self._sweeper.cancel()
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
            visitor = Visitor(machine, self._server.protocol(), own)
            self._visitors[visitor] = None
            task = asyncio.create_task(self._stay(visitor, own), name="connection")
            self._staying.add(task)
            task.add_done_callback(self._staying.discard)

    async def _stay(self, visitor: Visitor, own: socket.socket) -> None:
        protocol, limit_s = visitor.protocol, self._limits.preface_s
        timer = self._loop.call_later(limit_s, visitor.throw_out)
        try:
            with suppress(OSError):
                await self._loop.connect_accepted_socket(
                    lambda: protocol,
                    own,
                    ssl=self._tls,
                    ssl_handshake_timeout=limit_s if self._tls else None,
                )
                await protocol.begun.wait()
                timer.cancel()
                await protocol.gone.wait()
        finally:
            timer.cancel()
            protocol.abort()
            self._visitors.pop(visitor, None)

    def _has_room(self, machine: str) -> bool:
        """Make room for one more, if that can be."""
        limits = self._limits
        waiting = [visitor for visitor in self._visitors if visitor.waits]
        if len(waiting) >= limits.waiting:
            most = Counter(visitor.machine for visitor in waiting).most_common(1)[0][0]
            longest = next(visitor for visitor in waiting if visitor.machine == most)
            longest.throw_out()
            self._visitors.pop(longest, None)
        of_peer = [visitor for visitor in self._visitors if visitor.machine == machine]
        return self._has_place(of_peer, limits.peer_connections) and self._has_place(
            self._visitors, limits.connections
        )

    def _has_place(self, among: Collection[Visitor], most: int) -> bool:
        if len(among) < most:
            return True
        latest = self._loop.time() - _FRESH_S
        idle = [(at, visitor) for visitor in among if (at := visitor.idle_since()) is not None]
        since, visitor = min(idle, key=lambda pair: pair[0], default=(latest + 1, None))
        if visitor is None or since > latest:
            return False
        visitor.leave()
        self._visitors.pop(visitor, None)
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._limits.idle_s))
            latest = self._loop.time() - self._limits.idle_s
            for visitor in list(self._visitors):
                since = visitor.idle_since()
                if since is not None and since <= latest:
                    visitor.leave()
