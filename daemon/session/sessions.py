"""Sessions: connections inside calls, on which the server calls its client back.

The client opens ``Control/Session`` (or an upgraded HTTP/1 connection), and then *we* are the
client of a connection in that stream. A session ends when its stream does, when its health checks
fail, or when the server closes; whatever is being called in it then fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import asynccontextmanager

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.channel import Channel, ClientCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.grpc.tunnel import ByteStream

HEALTH = "/grpc.health.v1.Health/Check"
_PREFIX = "x-docker-expose-session-"
_INTERVAL_S = 5.0
_TIMEOUT_S = 15.0
_LEAST_INTERVAL_S, _MOST_INTERVAL_S = 1.0, 3600.0
_STRIKES = 2
_MOST_METHODS = 1000
MOST_SESSIONS = 1000  # each is a connection in a connection


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A client's description of its session.

    Attributes:
        shared_key: equal keys mean the same directories; often empty.
        methods: those that it serves, ``/package.Service/Method`` in lower case.
        owner: sessions of one owner may share copies.
        health_s: interval and timeout of health checks, where the client wants its own.
    """

    id: str
    methods: frozenset[str]
    shared_key: str = ""
    name: str = ""
    owner: str
    health_s: float | None = None

    @classmethod
    def read(cls, metadata: Metadata, owner: str) -> SessionInfo:
        """Read the metadata of a call, or the headers of an upgrade as `Metadata`.

        Raises:
            RpcError: there is no id.
        """
        id = metadata.get(_PREFIX + "uuid")
        if not id:
            raise RpcError(Code.INVALID_ARGUMENT, f"{_PREFIX}uuid is missing")
        methods = metadata.get_all(_PREFIX + "grpc-method")
        if len(methods) > _MOST_METHODS:
            raise RpcError(Code.INVALID_ARGUMENT, f"more than {_MOST_METHODS} methods are offered")
        health = metadata.get("x-buildkit-session-health-custom-timeout") or ""
        return cls(
            id=id,
            methods=frozenset(method.lower() for method in methods),
            shared_key=metadata.get(_PREFIX + "sharedkey") or "",
            name=metadata.get(_PREFIX + "name") or "",
            owner=owner,
            health_s=_health_s(health),
        )


def _health_s(milliseconds: str) -> float | None:
    """Read the interval that a client wants: not so short that the checks are work, nor for ever."""
    if not (milliseconds.isascii() and milliseconds.isdecimal() and milliseconds.strip("0")):
        return None
    seconds = float(milliseconds) / 1000  # of however many digits
    return min(max(seconds, _LEAST_INTERVAL_S), _MOST_INTERVAL_S)


class Session:
    """One client that can be called. Made by `Sessions`.

    Attributes:
        closed: set when nothing can be called any more.
        uploads: what the client sends beside its session, by the paths under which it would be called for.
    """

    def __init__(self, info: SessionInfo, channel: Channel) -> None:
        self.info = info
        self.uploads: dict[str, AsyncIterable[bytes]] = {}
        self.channel = channel
        self.closed = asyncio.Event()

    @property
    def id(self) -> str:
        return self.info.id

    @property
    def shared_key(self) -> str:
        return self.info.shared_key

    def offers(self, method: str) -> bool:
        return method.lower() in self.info.methods

    async def unary(
        self,
        method: str,
        request: bytes,
        *,
        metadata: Metadata | None = None,
        timeout: float | None = None,
    ) -> bytes:
        """Call a method with one answer.

        Raises:
            RpcError: UNIMPLEMENTED when the client does not offer it; what it answered;
                UNAVAILABLE when the session ends.
        """
        self._check(method)
        return await self.channel.unary(method, request, metadata=metadata, timeout=timeout)

    @asynccontextmanager
    async def stream(
        self, method: str, *, metadata: Metadata | None = None, timeout: float | None = None
    ) -> AsyncGenerator[ClientCall]:
        """Open a call; leaving the context ends it.

        Raises:
            RpcError: as `unary`.
        """
        self._check(method)
        async with self.channel.stream(method, metadata=metadata, timeout=timeout) as call:
            yield call

    def _check(self, method: str) -> None:
        if self.closed.is_set():
            raise RpcError(Code.UNAVAILABLE, f"session {self.id} has ended")
        if not self.offers(method):
            raise RpcError(Code.UNIMPLEMENTED, f"the client does not offer {method}")


class Sessions:
    """The sessions of one owner on a server, by id; for one event loop."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._sessions: dict[str, Session] = {}
        self._waiting: dict[str, set[asyncio.Future[Session]]] = {}
        self._closing = False

    async def handle(self, call: IncomingCall) -> None:
        """Serve ``Control/Session``; returns when the session has ended."""
        info = SessionInfo.read(call.metadata, self._owner)
        self.check(info)
        await call.send_headers()
        await self.serve(CallBytes(call), info)

    def check(self, info: SessionInfo) -> None:
        """Raise RpcError if a session cannot begin; for who must answer before `serve`."""
        if info.id in self._sessions:
            raise RpcError(Code.UNKNOWN, f"session {info.id} already exists")
        if len(self._sessions) >= MOST_SESSIONS:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{MOST_SESSIONS} sessions are open already")
        if self._closing:
            raise RpcError(Code.UNAVAILABLE, "the server is shutting down")

    async def serve(self, stream: ByteStream, info: SessionInfo) -> None:
        """Be the client of the connection in *stream* until it ends, however it came to us.

        Raises:
            RpcError: as `check`.
        """
        self.check(info)
        channel = await Channel.over(stream)
        session = Session(info, channel)
        self._sessions[info.id] = session
        for future in self._waiting.pop(info.id, ()):
            if not future.done():
                future.set_result(session)
        health = asyncio.create_task(self._watch(session), name=f"health of session {info.id}")
        try:
            await channel.closed.wait()
        finally:
            del self._sessions[info.id]
            session.closed.set()
            health.cancel()
            await channel.close()

    async def get(self, id: str, timeout_s: float = 5.0) -> Session:
        """Return a session, waiting for one that is on its way. Only the part after a colon counts.

        Raises:
            UserError: it does not come in time.
        """
        name = id.partition(":")[2] if ":" in id else id
        known = self._sessions.get(name)
        if known is not None:
            return known
        future: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(name, set())
        waiting.add(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise UserError(f"no active session for {name}: context deadline exceeded") from None
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(name) is waiting:
                del self._waiting[name]

    def find(self, id: str) -> Session | None:
        """Return a session that is there."""
        return self._sessions.get(id.partition(":")[2] if ":" in id else id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    async def close(self) -> None:
        """End all sessions, and take no more."""
        self._closing = True
        for session in list(self._sessions.values()):
            await session.channel.close()

    async def _watch(self, session: Session) -> None:
        """Ask again and again whether the client is alive; end the session when it is not."""
        if not session.offers(HEALTH):
            return
        interval = session.info.health_s or _INTERVAL_S
        timeout = session.info.health_s or _TIMEOUT_S
        strikes = 0
        while strikes < _STRIKES:
            await asyncio.sleep(interval)
            try:
                await session.unary(HEALTH, b"", timeout=timeout)
                strikes = 0
            except RpcError as error:
                strikes = 0 if error.code is Code.UNIMPLEMENTED else strikes + 1
        await session.channel.close()
