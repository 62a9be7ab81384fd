"""Connections: not too many, and none that only sits there.

aiohttp waits for the first request of a connection for ever; who opens many and says nothing, or
a letter a minute, would use up our descriptors.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from pybuild.registry.lost import printable

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class PatientServer(web.Server):
    """A server whose patience with the silent ends."""

    def __init__(
        self, answer: Answer, *, most: int, patience_s: float, keep_alive_s: float
    ) -> None:
        """Begin nothing yet.

        Args:
            most: connections at once; the next is closed as it comes.
            patience_s: until a connection's first request must be there, head and all.
            keep_alive_s: until its next must.
        """
        super().__init__(
            self._heard,
            access_log=None,
            logger=_quiet_logger(),
            auto_decompress=False,  # a blob is the bytes that were sent
            keepalive_timeout=keep_alive_s,
        )
        self._answer = answer
        self._most = most
        self._patience_s = patience_s
        self._silent: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._most:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(self._patience_s, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._end_of_silence(handler)
        super().connection_lost(handler, exc)

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        self._end_of_silence(request.protocol)
        return await self._answer(request)

    def _end_of_silence(self, handler: RequestHandler) -> None:
        timer = self._silent.pop(handler, None)
        if timer is not None:
            timer.cancel()


class _OurOwnFaults(logging.Handler):
    """Says in a line what went wrong here; what a client did wrong is its own affair."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, HttpProcessingError | ConnectionError):
            sys.stderr.write(f"error: {record.getMessage()}: {printable(repr(error))}\n")


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("pybuild.registry.server")
    if not logger.handlers:
        logger.addHandler(_OurOwnFaults())
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    return logger
