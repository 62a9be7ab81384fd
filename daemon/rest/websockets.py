"""A client that is attached by a websocket: bytes in messages, never in frames of ours [ENG-32]."""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from pybuild.daemon.rest.refusal import ApiRefusal

_MOST_BYTES = 1 << 20
_TEXTS = (WSMsgType.TEXT, WSMsgType.BINARY)


class WebSocketStream:
    """`pybuild.daemon.rest.hijack.ClientStream` of a websocket.

    It has no half-close: who closes it has gone.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.response = socket
        self._left = asyncio.Event()

    async def send(self, data: bytes) -> None:
        await self.response.send_bytes(data)

    async def read(self) -> bytes:
        """Return the next message; b"": there are no more."""
        while True:
            message = await self.response.receive()
            if message.type not in _TEXTS:
                self._left.set()
                return b""
            data: str | bytes = message.data
            if data:
                return data.encode() if isinstance(data, str) else data

    async def gone(self) -> None:
        """Return when the client has gone."""
        await self._left.wait()

    async def close(self) -> None:
        """Say that there is no more."""
        await self.response.close()


async def open_websocket(request: web.BaseRequest) -> WebSocketStream:
    """Answer that the connection is a websocket.

    Raises:
        ApiRefusal: its client does not speak that.
    """
    socket = web.WebSocketResponse(max_msg_size=_MOST_BYTES)
    if not socket.can_prepare(request):
        raise ApiRefusal(400, "expected an upgrade to a websocket")
    await socket.prepare(request)
    return WebSocketStream(socket)
