"""Collects the messages of a call, so that a thread gets many at once."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from pybuild.buildkit.session.bytesmessage import Messages

_MOST = 8 << 20
_COST = 200  # bytes that a message takes beside its own


class Inflow:
    """Reads ahead on a call, within bounds. An async context manager."""

    def __init__(self, call: Messages) -> None:
        self._call = call
        self._messages: list[bytes] = []
        self._size = 0
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def take(self) -> list[bytes]:
        """Return all that is here, at least one message; none when the call has ended well.

        Raises:
            RpcError: it ended otherwise, and nothing is left to be taken.
        """
        while not self._messages:
            if self._error is not None:
                raise self._error
            if self._ended:
                return []
            self._more.clear()
            await self._more.wait()
        messages, self._messages = self._messages, []
        self._size = 0
        self._room.set()
        return messages

    async def _read(self) -> None:
        try:
            while messages := await self._call.receive_all():
                self._messages += messages
                self._size += sum(map(len, messages)) + _COST * len(messages)
                self._more.set()
                if self._size > _MOST:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 - whoever takes raises it
            self._error = error
        finally:
            self._ended = True
            self._more.set()
