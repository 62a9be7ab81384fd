"""The requests of browsers: checked, then answered with a page, or refused with one."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from contextlib import aclosing, suppress

from aiohttp import web

from pybuild.cache.store import Store
from pybuild.model.errors import PybuildError
from pybuild.model.printable import printable
from pybuild.web.access import ENTRANCE, Asking, BrowserAccess, PageRefusal
from pybuild.web.buildpages import build_page, list_page
from pybuild.web.frame import LIVE, STYLE, live_script, notice, style_sheet, welcome
from pybuild.web.live import messages_of
from pybuild.web.storepages import containers_page, image_page, images_page

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TITLES = {401: "No session", 404: "Not found"}
_PAGES: tuple[tuple[re.Pattern[str], Callable[..., str]], ...] = (
    (re.compile("/"), list_page),
    (re.compile("/builds/([0-9a-f]{8})"), build_page),
    (re.compile("/images"), images_page),
    (re.compile("/images/([0-9a-f]{64})"), image_page),
    (re.compile("/containers"), containers_page),
)
_EVENTS = re.compile(r"/builds/([0-9a-f]{8})/events\Z")
_FILES = {STYLE: (style_sheet, "text/css"), LIVE: (live_script, "text/javascript")}
_MOST_STREAMS = 64
_LOOK_S = 0.25
_AT_ONCE = 4  # a page of a large build reads its whole log


class Site:
    """Answers requests about the builds of one store."""

    def __init__(self, store: Store, access: BrowserAccess) -> None:
        self._store = store
        self._access = access
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._streams = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End what goes on as long as a build does."""
        self._stopped.set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        try:
            response = await self._answer(request)
        except PageRefusal as refused:
            response = _page(
                notice(_TITLES.get(refused.status, "Refused"), refused.message), refused.status
            )
        except (PybuildError, OSError) as error:
            sys.stderr.write(f"warning: page {printable(request.path)}: {printable(str(error))}\n")
            response = _page(notice("It did not work", str(error)), 500)
        except Exception as error:  # noqa: BLE001 - a bug costs one page, and is told
            sys.stderr.write(f"error: page {printable(request.path)}: {printable(repr(error))}\n")
            response = _page(notice("It did not work", "the server's log says why"), 500)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asking = _asking(request)
        self._access.check(asking)
        method, target = asking.method, asking.target.partition("?")[0]
        if method == "HEAD" and target.startswith(ENTRANCE):
            raise PageRefusal(405, "a link is opened, not looked at")
        if method in ("GET", "HEAD"):
            if file := _FILES.get(target):
                make, kind = file
                return _page(make(), kind=kind)
            if target.startswith(ENTRANCE):
                cookie = self._access.enter(target.removeprefix(ENTRANCE))
                return _page(welcome(), cookie=cookie)
            self._access.admit(asking.cookies)
            if method == "GET" and (match := _EVENTS.match(target)):
                return await self._streamed(request, asking, match[1])
            return _page(await self._made(target))
        if method == "POST" and target == "/leave":
            cookie = self._access.leave(asking.cookies)
            return _page(notice("Left", "This browser has no access any more."), cookie=cookie)
        self._access.admit(asking.cookies)
        raise PageRefusal(405, "nothing here takes such a request")

    async def _streamed(
        self, request: web.BaseRequest, asking: Asking, id: str
    ) -> web.StreamResponse:
        """Tell the page of a build of what happens, until it has ended, its browser goes or the session ends."""
        if self._streams >= _MOST_STREAMS:
            raise PageRefusal(503, "too many pages follow builds at once")

        async def pause() -> bool:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _LOOK_S)
            try:
                self._access.admit(asking.cookies)
            except PageRefusal:
                return False
            return not self._stopped.is_set()

        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        self._streams += 1
        try:
            await response.prepare(request)
            async with aclosing(messages_of(self._store, id, pause)) as messages:
                async for message in messages:
                    await response.write(message)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._streams -= 1
        return response

    async def _made(self, target: str) -> str:
        for pattern, make in _PAGES:
            if match := pattern.fullmatch(target):
                async with self._room:
                    return await asyncio.to_thread(make, self._store, *match.groups())
        raise PageRefusal(404, "there is no such page")


def _asking(request: web.BaseRequest) -> Asking:
    headers = request.headers
    return Asking(
        method=request.method,
        target=request.raw_path,
        hosts=headers.getall("Host", ()),
        origins=headers.getall("Origin", ()),
        sites=headers.getall("Sec-Fetch-Site", ()),
        cookies=headers.getall("Cookie", ()),
    )


def _page(
    text: str, status: int = 200, *, kind: str = "text/html", cookie: str = ""
) -> web.Response:
    data = text.encode("utf-8", "replace")
    headers = {"Set-Cookie": cookie} if cookie else None
    return web.Response(
        body=data, status=status, content_type=kind, charset="utf-8", headers=headers
    )
