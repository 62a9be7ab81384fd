"""The server as an application: each request understood, allowed, answered or refused."""

from __future__ import annotations

import asyncio
import errno
import sys
import traceback
from contextlib import suppress
from time import monotonic

from aiohttp import web

from pybuild.cache.content.storekey import identity
from pybuild.model.errors import EnvironmentFault
from pybuild.model.printable import in_log
from pybuild.net.http1.faults import printable
from pybuild.registry.client.samestore import STORE
from pybuild.registry.server import blobs, discovery, manifests, uploads
from pybuild.registry.server.exchange import Exchange, Handler
from pybuild.registry.server.guard import TOKEN_PATH, Guard
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.metrics import CONTENT_TYPE
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.routes import Permission, RegistryCall, RouteKind, understand

_GONE = 499  # as nginx calls a client that went away
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_HANDLERS: dict[tuple[RouteKind, str], Handler] = {
    (RouteKind.BASE, "GET"): discovery.base,
    (RouteKind.CATALOG, "GET"): discovery.catalog,
    (RouteKind.TAGS, "GET"): discovery.tags,
    (RouteKind.REFERRERS, "GET"): discovery.referrers,
    (RouteKind.MANIFEST, "GET"): manifests.get,
    (RouteKind.MANIFEST, "PUT"): manifests.put,
    (RouteKind.MANIFEST, "DELETE"): manifests.delete,
    (RouteKind.BLOB, "GET"): blobs.get,
    (RouteKind.BLOB, "DELETE"): blobs.delete,
    (RouteKind.UPLOADS, "POST"): uploads.begin,
    (RouteKind.UPLOAD, "GET"): uploads.status,
    (RouteKind.UPLOAD, "PATCH"): uploads.append,
    (RouteKind.UPLOAD, "PUT"): uploads.finish,
    (RouteKind.UPLOAD, "DELETE"): uploads.cancel,
}


class Registry:
    """Answers the requests of one server.

    Attributes:
        signature: headers of every answer.
    """

    def __init__(self, hosting: Hosting, guard: Guard) -> None:
        self.hosting = hosting
        self.guard = guard
        self.signature = {
            "Docker-Distribution-Api-Version": "registry/2.0",
            STORE: identity(hosting.key),
        }
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def drain(self, grace_s: float) -> None:
        """Let the handlers at work finish; further requests are answered and hung up on."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        metrics = self.hosting.metrics
        begun = monotonic()
        metrics.in_flight += 1
        self._idle.clear()
        kind = "other"
        try:
            if request.path == TOKEN_PATH and self.guard.issuer is not None:
                kind = "token"
                response: web.StreamResponse = await self.guard.token(request)
            else:
                call = understand(request.method, request.path)
                kind = call.kind
                response = await self._answer(call, request)
        except Refusal as refusal:
            response = _refused(refusal)
        except (ConnectionError, web.RequestPayloadError):
            response = web.Response(status=_GONE)  # for the numbers: nobody is there to read it
            response.force_close()
        except (EnvironmentFault, OSError) as error:
            # The path is anybody's text, and a log may be read on a terminal.
            request_line = printable(f"{request.method} {request.path}")
            sys.stderr.write(f"error: {request_line}: {printable(str(error))}\n")
            response = _refused(_failed(error))
        except Exception:  # noqa: BLE001 (a bug costs one request, and is told in full)
            sys.stderr.write(f"error: bug of the registry:\n| {in_log(traceback.format_exc())}\n")
            response = _refused(Refusal(500, RefusalCode.UNSUPPORTED, "the registry has a bug"))
        finally:
            metrics.in_flight -= 1
            if not metrics.in_flight:
                self._idle.set()
        if not response.prepared:
            response.headers.update(self.signature)
        if self._stopping:
            response.force_close()
        size = response.content_length or 0
        # Anybody may send any word as a method, and a label must not be of any number.
        method = request.method if request.method in _METHODS else "other"
        metrics.answered(kind, method, response.status, monotonic() - begun, size)
        return response

    async def _answer(self, call: RegistryCall, request: web.BaseRequest) -> web.StreamResponse:
        namespace, original_call = "", call
        upstreams = self.hosting.upstreams
        if upstreams is not None:
            namespace = request.query.get("ns", "")
            call = upstreams.translated(call, namespace)
        caller = await self.guard.admit(request, call)
        self._allow(call)
        if request.headers.get("Expect", "").lower() == "100-continue":
            # Only now: who may not push need not send.
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        handler = _HANDLERS[call.kind, "GET" if call.method == "HEAD" else call.method]
        response = await handler(Exchange(self.hosting, call, request, caller))
        if namespace and call is not original_call and not response.prepared:
            response.headers["OCI-Namespace"] = namespace
        return response

    async def metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the numbers; for an address of its own."""
        if request.path != "/metrics" or request.method != "GET":
            return web.Response(status=404)
        uploads = await asyncio.to_thread(self.hosting.spool.count)
        gauges = {"uploads": ("Uploads that are begun and not ended.", float(uploads))}
        body = self.hosting.metrics.text(gauges).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    def _allow(self, call: RegistryCall) -> None:
        settings = self.hosting.settings
        if call.action in (Permission.PUSH, Permission.DELETE) and settings.read_only:
            raise Refusal(405, RefusalCode.UNSUPPORTED, "this registry is read-only")
        upstreams = self.hosting.upstreams
        if call.action is Permission.PUSH and upstreams is not None and upstreams.find(call.name):
            raise Refusal(
                405, RefusalCode.UNSUPPORTED, f"{call.name} is a cache: push to its registry"
            )
        if call.action is Permission.DELETE and not settings.deletion:
            raise Refusal(405, RefusalCode.UNSUPPORTED, "nothing can be deleted from this registry")


def _refused(refusal: Refusal) -> web.Response:
    headers = {"Content-Type": "application/json", **refusal.headers}
    return web.Response(status=refusal.status, body=refusal.body, headers=headers)


def _failed(error: EnvironmentFault | OSError) -> Refusal:
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(507, RefusalCode.DENIED, "there is no space left in this registry")
    return Refusal(500, RefusalCode.UNSUPPORTED, "the registry failed; its log says why")
