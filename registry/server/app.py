"""The server as an application: each request understood, allowed, answered or refused."""

from __future__ import annotations

import errno
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from pybuild.model.errors import EnvironmentFault
from pybuild.registry.server import blobs, discovery, manifests, uploads
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.refusal import Code, Refusal
from pybuild.registry.server.routes import Action, Call, Kind, understand

Handler = Callable[[Hosting, Call, web.Request], Awaitable[web.StreamResponse]]

_VERSION = ("Docker-Distribution-Api-Version", "registry/2.0")
_HANDLERS: dict[tuple[Kind, str], Handler] = {
    (Kind.BASE, "GET"): discovery.base,
    (Kind.CATALOG, "GET"): discovery.catalog,
    (Kind.TAGS, "GET"): discovery.tags,
    (Kind.REFERRERS, "GET"): discovery.referrers,
    (Kind.MANIFEST, "GET"): manifests.get,
    (Kind.MANIFEST, "PUT"): manifests.put,
    (Kind.MANIFEST, "DELETE"): manifests.delete,
    (Kind.BLOB, "GET"): blobs.get,
    (Kind.BLOB, "DELETE"): blobs.delete,
    (Kind.UPLOADS, "POST"): uploads.begin,
    (Kind.UPLOAD, "GET"): uploads.status,
    (Kind.UPLOAD, "PATCH"): uploads.append,
    (Kind.UPLOAD, "PUT"): uploads.finish,
    (Kind.UPLOAD, "DELETE"): uploads.cancel,
}


class Registry:
    """Answers the requests of one server."""

    def __init__(self, hosting: Hosting) -> None:
        self.hosting = hosting

    def application(self) -> web.Application:
        """Return what aiohttp serves."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        application.on_response_prepare.append(_sign)
        return application

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever it is."""
        try:
            call = understand(request.method, request.path)
            self._allow(call)
            handler = _HANDLERS[call.kind, "GET" if call.method == "HEAD" else call.method]
            return await handler(self.hosting, call, request)
        except Refusal as refusal:
            return _refused(refusal)
        except EnvironmentFault as fault:
            sys.stderr.write(f"error: {request.method} {request.path}: {fault.message}\n")
            return _refused(_failed(fault))

    def _allow(self, call: Call) -> None:
        settings = self.hosting.settings
        if call.action in (Action.PUSH, Action.DELETE) and settings.read_only:
            raise Refusal(405, Code.UNSUPPORTED, "this registry is read-only")
        if call.action is Action.DELETE and not settings.deletion:
            raise Refusal(405, Code.UNSUPPORTED, "nothing can be deleted from this registry")


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    response.headers[_VERSION[0]] = _VERSION[1]


def _refused(refusal: Refusal) -> web.Response:
    headers = {"Content-Type": "application/json", **refusal.headers}
    return web.Response(status=refusal.status, body=refusal.body, headers=headers)


def _failed(fault: EnvironmentFault) -> Refusal:
    cause = fault.__cause__
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(507, Code.DENIED, "there is no space left in this registry")
    return Refusal(500, Code.UNSUPPORTED, "the registry failed; its log says why")
