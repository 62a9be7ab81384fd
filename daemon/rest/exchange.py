"""One request with what its handler needs, and the answers that handlers give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from aiohttp import HttpVersion11, web

from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.lines import LocalLine
from pybuild.containers.order import StreamAttachment
from pybuild.daemon.rest.execs import ExecProcesses
from pybuild.daemon.rest.fields import Fields, read_object
from pybuild.daemon.rest.foldernotices import FolderNotices
from pybuild.daemon.rest.lines import MonitorLine, Waiting
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.routes import ApiCall
from pybuild.engine.engine import Engine
from pybuild.model.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.daemon.buildservices import BuildServices
    from pybuild.daemon.rest.bodies import LentBodies
    from pybuild.registry.client.credentials import Credentials

P = ParamSpec("P")
T = TypeVar("T")
_MOST_JSON_BYTES = 4 << 20
_BODY_S = 60.0
_SILENCE_S = 600.0
_THREADS = 32
_LIKE_JSON = "application/json"


class RestHost:
    """The parts that all requests share.

    Attributes:
        builds: None where there are none; *running_builds*: those that clients may cancel, by the names they gave.
        waiting: for containers that do not run yet.
        processes: those of exec.
        body_s: the time in which a body of JSON has to come.
        silence_s: how long nothing of an archive may come.
        listeners: clients that follow events.
        notices: that files of containers have changed.
    """

    def __init__(
        self,
        engine: Engine,
        builds: BuildServices | None = None,
        *,
        body_s: float = _BODY_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self.engine = engine
        self.builds = builds
        self.running_builds: dict[str, asyncio.Future[Any]] = {}
        self.store = engine.store
        self.containers = Containers(engine.store)
        self.body_s = body_s
        self.silence_s = silence_s
        self.waiting = Waiting()
        self.processes = ExecProcesses()
        self.listeners = 0
        self.notices = FolderNotices()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(_THREADS, "rest")

    @cached_property
    def bodies(self) -> LentBodies:
        """Requests whose bodies are contexts of other requests' builds."""
        from pybuild.daemon.rest.bodies import LentBodies

        return LentBodies(self.silence_s)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may block in a thread of our own: locks, and sockets of monitors."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    def alone(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Do in a thread of its own what waits for a client: others do not wait with it."""
        thread = ThreadPoolExecutor(1, "rest-alone")
        done = asyncio.get_running_loop().run_in_executor(thread, work)
        thread.shutdown(wait=False)
        return done

    @asynccontextmanager
    async def guest(self, credentials: Credentials | None = None) -> AsyncGenerator[Engine]:
        """Give the engine for one request, with our logins unless it has its own: what it uses of the store is kept as long."""
        engine = self.engine.for_client(credentials or self.engine.credentials())
        try:
            yield engine
        finally:
            await engine.close()

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that no client waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def removing(self, container: Container) -> tuple[LocalLine, StreamAttachment]:
        """Return the monitor's end of a line on which we hear the end of a container that goes then.

        We have at hand what removing takes; a monitor, which does it where we are gone, has not.
        """
        ours, theirs = LocalLine.pair()
        self.background(self._remove_ended(container, MonitorLine(ours)))
        return theirs, StreamAttachment(stdout=False, stderr=False, removes=True)

    async def _remove_ended(self, container: Container, own: MonitorLine) -> None:
        try:
            message = await own.hear()
        finally:
            own.close()
        if message is not None and message[0] == "ended":
            with suppress(PybuildError):  # somebody else was faster
                await self.run(self.containers.remove, container, force=True, volumes=True)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.notices.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class ApiExchange:
    """One request, and where it is answered.

    Attributes:
        signature: the headers of every answer.
    """

    def __init__(
        self,
        host: RestHost,
        call: ApiCall,
        request: web.BaseRequest,
        signature: Mapping[str, str],
    ) -> None:
        self.host = host
        self.call = call
        self.request = request
        self.signature = signature
        self._begun = False
        values: dict[str, list[str]] = {}
        for key, value in request.query.items():
            values.setdefault(key, []).append(value)
        self.query = Query(values)

    @property
    def has_begun(self) -> bool:
        """Whether the head of its answer was sent, or its connection is no HTTP any more."""
        transport = self.request.transport
        is_taken = transport is not None and transport.get_protocol() is not self.request.protocol
        return self._begun or is_taken

    async def container(self) -> Container:
        """Return the container that the path names."""
        return await self.host.run(self.host.containers.find, self.call.name)

    async def body(self, *, required: bool = False) -> Fields:
        """Return the JSON object of the body.

        Args:
            required: there must be one.

        Raises:
            ApiRefusal: it is none, or too large.
        """
        data = bytearray()
        if (self.request.content_length or 0) > _MOST_JSON_BYTES:
            raise _too_large()
        try:
            async with asyncio.timeout(self.host.body_s):
                async for piece in self.request.content.iter_any():
                    data += piece
                    if len(data) > _MOST_JSON_BYTES:
                        raise _too_large()
        except TimeoutError:
            raise ApiRefusal(
                408, f"the body did not come in {self.host.body_s:g} seconds"
            ) from None
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if data and kind != _LIKE_JSON:
            shown = self.request.headers.get("Content-Type", "")[:100]
            raise ApiRefusal(
                400, f"unsupported Content-Type header ({shown}): must be 'application/json'"
            )
        if required and not data.strip():
            raise ApiRefusal(400, "invalid JSON: EOF")
        return read_object(bytes(data))

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield an archive as it comes, see `bodies.pieces`."""
        from pybuild.daemon.rest.bodies import pieces

        return pieces(self.request, self.host.silence_s)

    async def begin(
        self, kind: str = _LIKE_JSON, headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Send the head of an answer that comes in pieces [ENG-37, ENG-38]."""
        response = web.StreamResponse(headers={"Content-Type": kind, **(headers or {})})
        response.headers.update(self.signature)
        if self.request.version >= HttpVersion11:
            response.enable_chunked_encoding()
        self._begun = True
        await response.prepare(self.request)
        return response


Handler = Callable[[ApiExchange], Awaitable[web.StreamResponse]]


def answer(value: Any, status: int = 200) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(status=status, body=_json(value) + b"\n", content_type=_LIKE_JSON)


def nothing(status: int = 204) -> web.Response:
    """Return an answer without a body."""
    return web.Response(status=status)


def json_line(value: Any) -> bytes:
    """Return a line of a stream of JSON objects."""
    return _json(value) + b"\r\n"


def _too_large() -> ApiRefusal:
    return ApiRefusal(413, f"the body is larger than {_MOST_JSON_BYTES} bytes")


def _json(value: Any) -> bytes:
    """Return JSON; what no text can hold, such as a file's name in another encoding, is a question mark."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
