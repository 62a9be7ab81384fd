"""Web servers on loopback, in a thread, for programs that run beside the test."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager

from aiohttp import web


class Site:
    """Files by path, with ETags; a test may change them while it is served.

    Attributes:
        asked: ``(path, authorization)`` of the requests so far.
        authorization: what the header must be; all is open without.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.authorization = ""
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        self.asked.append((request.path, given))
        if self.authorization and given != self.authorization:
            return web.Response(status=401)
        data = self.files.get(request.path)
        if data is None:
            return web.Response(status=404)
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=data, headers={"ETag": etag})


@contextmanager
def site() -> Generator[Site]:
    """Serve a `Site`."""
    served = Site()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", served.answer)
    with serving(application) as url:
        served.url = url
        yield served


@contextmanager
def serving(application: web.Application, tls: ssl.SSLContext | None = None) -> Generator[str]:
    """Serve *application* in a thread of its own; gives ``http(s)://127.0.0.1:<port>``."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(application, shutdown_timeout=0.1)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        return f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
