"""One connection to an HTTP/1.1 server: a request out, its answer in, nothing held that is not read.

asyncio's end of `answer.Answer`. aiohttp would do the same and more; it is not used here because to
import it costs a tenth of a second of processor time, a third of it for certificates of which each
registry has its own selection anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import cast

from pybuild.net.http1.answer import Answer, BadAnswer

Body = AsyncGenerator[bytes]

_HELD_BYTES = 1 << 20  # so much may wait for the reader


class Cut(Exception):
    """The connection ended before the answer did."""


class Connection(asyncio.Protocol):
    """Takes one request after the other; `asyncio.Protocol` for the loop.

    Attributes:
        is_open: nobody has closed it as far as is known.
        uses: how many requests it was given.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.uses = 0
        self._loop = asyncio.get_running_loop()
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._held = 0
        self._is_paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._sender: asyncio.Task[None] | None = None

    # --- for who asks -----------------------------------------------------------------------------

    async def ask(self, method: str, head: bytes, body: Body | None) -> Answer:
        """Send a request; returns when the head of its answer is there, be the body sent or not.

        Raises:
            Cut, OSError, BadAnswer; whatever *body* raises.
        """
        if not self.is_open:
            raise self._error or Cut
        self.uses += 1
        answer = self._answer = Answer(method)
        self._held = 0
        self._write(head)
        if body is not None:
            self._sender = asyncio.create_task(self._send(body))
        while not answer.has_head:
            await self._change()
        return answer

    async def read(self) -> bytes:
        """Return the next bytes of the body; nothing at its end.

        Raises:
            Cut, OSError, BadAnswer.
        """
        answer = self._answer
        assert answer is not None
        while not answer.pieces:
            if answer.is_complete:
                return b""
            await self._change()
        data = answer.pieces.popleft() if len(answer.pieces) == 1 else b"".join(answer.pieces)
        answer.pieces.clear()
        self._held = 0
        if self._is_paused:
            self._is_paused = False
            if self.is_open:
                self.transport.resume_reading()
        return data

    @property
    def is_reusable(self) -> bool:
        """Return whether the last request is done with, and another one may follow."""
        answer, sender = self._answer, self._sender
        is_sent = sender is None or (sender.done() and not sender.cancelled())
        is_read = answer is None or (answer.is_complete and answer.keeps and not answer.pieces)
        return self.is_open and is_sent and is_read and self._error is None

    def close(self) -> None:
        """Drop it, whatever is going on; idempotent."""
        self.is_open = False
        if self._sender is not None:
            self._sender.cancel()
        self.transport.abort()

    def moved(self, transport: asyncio.Transport) -> None:
        """Go on over *transport*, which TLS was begun on."""
        self.transport = transport
        self._answer = None

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():  # else `connection_lost` is about to say so
            self.transport.write(data)

    async def _change(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    async def _send(self, body: Body) -> None:
        try:
            async with aclosing(body):
                async for data in body:
                    if not self.is_open:
                        return
                    self._write(data)
                    if self._drained is not None:
                        await self._drained
        except Exception as error:  # noqa: BLE001 - told to who waits for the answer
            self._fail(error)

    # --- for the loop -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(
            asyncio.Transport, transport
        )  # uvloop's are that by their methods only
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self.close()  # it speaks without being asked
            return
        before = len(answer.pieces)
        try:
            answer.feed(data)
        except BadAnswer as error:
            self._fail(error)
            return
        if len(answer.pieces) > before:
            self._held += len(data)
            if self._held > _HELD_BYTES and not self._is_paused and not answer.is_complete:
                self._is_paused = True
                self.transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._answer is None or not self._answer.end():
            self._error = self._error or exc or Cut()
        self.resume_writing()
        self._wake()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
