"""A web server in this process, for sources that are files by http."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from pybuild.executor.sources.download import Limits
from pybuild.model.ops import HttpSource

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
QUICK = Limits(backoff_s=0.01, backoff_most_s=0.02)
WHEN = "Wed, 21 Oct 2015 07:28:00 GMT"


class Server:
    """Answers by *handler*, and keeps the requests."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.requests: list[web.BaseRequest] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        return await self._handler(request)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[Server]:
    server = Server(handler)
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


def fixed(body: bytes = b"hello", status: int = 200, **headers: str) -> Handler:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers=names)

    return answer


def source(server: Server, path: str = "/f.txt", **fields: object) -> HttpSource:
    return HttpSource(url=server.url + path, filename="f.txt", **fields)  # type: ignore[arg-type]
