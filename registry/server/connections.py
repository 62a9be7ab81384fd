"""Connections: not too many, and none that only sits there.

aiohttp waits for the first request of a connection for ever; who opens many and says nothing, or
a letter a minute, would use up our descriptors.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from pybuild.model.printable import printable

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpVisit:
    """One connection of HTTP, as a `Doorway` sees it."""

    def __init__(self, handler: RequestHandler) -> None:
        self.protocol = handler
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()
        self._answering = 0
        self._used_at = 0.0

    @contextmanager
    def answering(self) -> Generator[None]:
        """A request is being answered."""
        self.begun.set()
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            self._used_at = asyncio.get_running_loop().time()

    def close(self) -> None:
        self.begun.set()
        self.gone.set()

    def idle_since(self) -> float | None:
        return None if self._answering or not self.begun.is_set() else self._used_at

    def leave(self) -> None:
        self.protocol.close()
        self.abort()

    def abort(self) -> None:
        transport = self.protocol.transport
        if transport is not None:
            transport.abort()


class PatientServer(web.Server):
    """A server whose patience with the silent ends."""

    def __init__(
        self,
        answer: Answer,
        *,
        keep_alive_s: float,
        ends_unheard: bool = False,
        head_bytes: int = 8190,
    ) -> None:
        """Begin nothing yet.

        Args:
            keep_alive_s: until a connection's next request must be there, head and all.
            ends_unheard: an answer is cancelled when its client goes.
            head_bytes: of a request's line, and of each field of its head, at most.
        """
        super().__init__(
            self._heard,
            access_log=None,
            logger=_quiet_logger(),
            auto_decompress=False,  # a blob is the bytes that were sent
            keepalive_timeout=keep_alive_s,
            handler_cancellation=ends_unheard,
            max_line_size=head_bytes,
            max_field_size=head_bytes,
        )
        self._answer = answer
        # Weak: nobody is told of one that came to nothing, as its TLS failed.
        self._visits: WeakValueDictionary[RequestHandler, HttpVisit] = WeakValueDictionary()

    def visit(self) -> HttpVisit:
        """Return the handler of a new connection, for `Doorway`."""
        visit = HttpVisit(self())
        self._visits[visit.protocol] = visit
        return visit

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        visit = self._visits.pop(handler, None)
        if visit is not None:
            visit.close()
        super().connection_lost(handler, exc)

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        visit = self._visits.get(request.protocol)
        if visit is None:
            return await self._answer(request)
        with visit.answering():
            return await self._answer(request)


class _OurOwnFaults(logging.Handler):
    """Writes a line for each fault of the server; the faults of clients are not logged."""

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
