"""A door that is made when somebody knocks: until then the kernel keeps those who come."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from pybuild.net.doorway import Doorway


class LateDoor:
    """A socket that listens, and the `Doorway` that *make* gives it when the first connection comes."""

    def __init__(
        self, listener: socket.socket, make: Callable[[socket.socket], Awaitable[Doorway]]
    ) -> None:
        self._listener = listener
        self._make = make
        self._door: Doorway | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_closed = False
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._knocked)

    def _knocked(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener)
        self._opening = asyncio.create_task(self._open(), name="door")

    async def _open(self) -> None:
        door = await self._make(self._listener)
        self._door = door
        if self._is_closed:
            door.close()

    def close(self) -> None:
        """Take no more, and give up those that have not begun."""
        self._is_closed = True
        if self._door is not None:
            self._door.close()
        elif self._opening is None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()

    async def closed(self) -> None:
        """Wait until `close` has been done and every connection is gone."""
        if self._opening is not None:
            await self._opening
        if self._door is not None:
            await self._door.closed()
