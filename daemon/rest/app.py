"""Docker's REST API as an application: each request understood, answered or refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection

from aiohttp import web

from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, answer
from pybuild.daemon.rest.handlers import ROUTES, handler_of
from pybuild.daemon.rest.hijack import cut_off
from pybuild.daemon.rest.origins import refusal_of_browser
from pybuild.daemon.rest.refusal import ApiRefusal, refusal_of_any
from pybuild.daemon.rest.routes import Routes, signature
from pybuild.daemon.rest.system import ENGINE_VERSION

_GONE = 499  # as nginx calls a client that went away


class RestApi:
    """Answers the requests of all clients.

    Args:
        own_names: of this machine, by which clients may call it over TCP.
    """

    def __init__(self, host: RestHost, own_names: Collection[str] = ()) -> None:
        self._host = host
        self._own_names = own_names
        self._routes = Routes(ROUTES)
        self._signature = signature(ENGINE_VERSION)
        self._at_work: set[asyncio.Task[web.StreamResponse]] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        exchange: ApiExchange | None = None
        try:
            exchange = self._understood(request)
            response = await self._answer(exchange)
        except (ConnectionError, web.RequestPayloadError):
            response = web.Response(status=_GONE)  # nobody is there to read it
            response.force_close()
        except Exception as error:  # noqa: BLE001 - a bug costs one request, and is told in full
            refusal = refusal_of_any(error)
            response = answer({"message": refusal.message}, refusal.status)
        if not response.prepared and exchange is not None and exchange.has_begun:
            return cut_off(request)  # never a second answer behind the first one's head
        if not response.prepared:
            response.headers.update(self._signature)
        return response

    def _understood(self, request: web.BaseRequest) -> ApiExchange:
        if "\0" in request.path or "%00" in request.query_string:
            raise ApiRefusal(400, "a NUL byte is in the request's line")
        if why := self._doubt(request):
            raise ApiRefusal(403, why)
        call = self._routes.understand(request.method, request.path)
        return ApiExchange(self._host, call, request, self._signature)

    def _doubt(self, request: web.BaseRequest) -> str:
        """Return why a client is none that Docker's API is for: no browser reaches a Unix socket."""
        transport = request.transport
        own = None if transport is None else transport.get_extra_info("socket")
        if transport is None or own is None or own.family == socket.AF_UNIX:
            return ""
        tls = transport.get_extra_info("ssl_object")
        return refusal_of_browser(
            request.headers,
            self._own_names,
            has_certificate=tls is not None and tls.getpeercert(binary_form=True) is not None,
        )

    async def _answer(self, exchange: ApiExchange) -> web.StreamResponse:
        handler, ends_unheard = await handler_of(exchange.call.route)
        if ends_unheard:
            return await handler(exchange)
        task = asyncio.create_task(_awaited(handler, exchange))
        self._at_work.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may have gone


async def _awaited(handler: Handler, exchange: ApiExchange) -> web.StreamResponse:
    return await handler(exchange)
