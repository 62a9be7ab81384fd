"""Serving Docker's REST API: for those who may be root here."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from pybuild.containers.booting import start_after_boot
from pybuild.containers.containers import Containers
from pybuild.daemon.buildservices import BuildServices
from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.exchange import RestHost, answer
from pybuild.daemon.rest.places import RestPlace
from pybuild.engine.engine import Engine
from pybuild.model.printable import in_log
from pybuild.net.doorway import Admission, Doorway, Visit
from pybuild.net.tlsstream import TlsVisit
from pybuild.registry.server.connections import Answer, PatientServer

_KEEP_ALIVE_S = 3600.0
_BEGIN_S = 60.0
_MOST_CONNECTIONS = 12_000
_MOST_FIELD_BYTES = 1 << 17
"""Of the request's line, which has build arguments and labels, and of a field, which has the logins of all registries."""
_MOST_HEAD_BYTES = 4 * _MOST_FIELD_BYTES
_MOST_LEFT_OUT_BYTES = 64 * _MOST_FIELD_BYTES
_END = b"\r\n\r\n"
_NO_HEAD = b"\0" + _END
"""Ends a head wherever it is, by a fault."""
_MANY = "Too many headers"


@asynccontextmanager
async def listening(
    engine: Engine, builds: BuildServices, places: Sequence[RestPlace], grace_s: float
) -> AsyncGenerator[None]:
    """Serve for the block what comes to *places*."""
    host = RestHost(engine, builds)
    api = RestApi(host, {socket.gethostname().lower(), *(place.host.lower() for place in places)})
    server = RestServer(api.answer, keep_alive_s=_KEEP_ALIVE_S)
    runner = web.ServerRunner(server, shutdown_timeout=grace_s)
    await runner.setup()
    doors = [
        Doorway(partial(_visit, server, place.tls), _admission(), place.listener)
        for place in places
    ]
    boot = asyncio.create_task(asyncio.to_thread(_start_after_boot, host.containers))
    try:
        yield
    finally:
        for door in doors:
            door.close()
        await boot
        await runner.cleanup()
        host.close()


def _visit(server: RestServer, tls: ssl.SSLContext | None) -> Visit:
    return server.visit() if tls is None else TlsVisit(server.visit(), tls)


def _start_after_boot(containers: Containers) -> None:
    """Start what its restart policy has run since the machine has come up; say what does not [MON-7]."""
    started, failed = start_after_boot(containers)
    for one in started:
        sys.stderr.write(f"started container {one.config.name}\n")
    for error in failed:
        sys.stderr.write(f"warning: {in_log(str(error))}\n")


def _admission() -> Admission:
    """Leave descriptors for the work: connections get a half of what the process may have."""
    most = _MOST_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files // 2))
    return Admission(
        connections=most,
        machine=most,  # who may connect at all is one user, or as good as one
        waiting=max(10, most // 2),
        begin_s=_BEGIN_S,
        idle_s=_KEEP_ALIVE_S,
    )


class RestServer(PatientServer):
    """A server of Docker's API."""

    def __init__(self, answers: Answer, *, keep_alive_s: float) -> None:
        super().__init__(
            answers, keep_alive_s=keep_alive_s, ends_unheard=True, head_bytes=_MOST_FIELD_BYTES
        )

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection, whose heads are bounded as wholes: aiohttp bounds each field, and their number."""

    _head_bytes = 0
    _body: StreamReader = EMPTY_PAYLOAD
    _left_out: bytes = b""

    def data_received(self, data: bytes) -> None:
        if self._head_bytes > _MOST_HEAD_BYTES:
            self._leave_out(data)
            return
        before = len(self._messages)
        super().data_received(data)
        if len(self._messages) > before:
            self._head_bytes, self._body = 0, self._messages[-1][1]
        elif self._body.is_eof() and self._payload_parser is None:  # no websocket
            self._head_bytes += len(data)
            self._left_out = data[1 - len(_END) :]

    def _leave_out(self, data: bytes) -> None:
        """Refuse a head at its end: a client that still sends loses an answer."""
        data = self._left_out + data
        self._left_out = data[1 - len(_END) :]
        self._head_bytes += len(data)
        if _END in data or self._head_bytes > _MOST_LEFT_OUT_BYTES:
            super().data_received(_NO_HEAD)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs, and raises where it is too late
        text = (message or HTTPStatus(status).phrase).strip()
        is_long = isinstance(exc, LineTooLong) or text.startswith(_MANY)
        if is_long or self._head_bytes > _MOST_HEAD_BYTES:
            status = 431
            text = (
                f"the head of the request is too large: {_MOST_FIELD_BYTES} bytes a field, "
                f"{_MOST_HEAD_BYTES} in all"
            )
        refused = answer({"message": text.partition("\n")[0]}, status)
        refused.force_close()
        return refused
