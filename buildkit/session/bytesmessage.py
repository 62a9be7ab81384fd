"""``BytesMessage{data=1}`` by hand: tunnels and archives are made of nothing else."""

from __future__ import annotations

from typing import Protocol

from pybuild.buildkit.fsutil.packet import MalformedPacket, uvarint
from pybuild.buildkit.pb.filesync import BytesMessage
from pybuild.net.grpc.status import Code, RpcError


class Messages(Protocol):
    """A call of either side, as far as its messages go."""

    async def receive(self) -> bytes | None: ...

    async def receive_all(self) -> list[bytes]: ...

    async def send(self, message: bytes, /) -> None: ...


def wrap(data: bytes | memoryview) -> bytes:
    return b"".join((b"\x0a", uvarint(len(data)), data)) if data else b""


def unwrap(message: bytes) -> bytes:
    """Return the data of a message.

    Raises:
        MalformedPacket: it is no such message.
    """
    if not message:
        return b""
    size = len(message)
    if message[0] == 0x0A and size > 1:
        # One field that fills the message, which is what there is in practice.
        value = shift = 0
        for at in range(1, min(size, 6)):
            byte = message[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if at + 1 + value == size:
                    return message[at + 1 :]
                break
            shift += 7
    try:
        return BytesMessage.FromString(message).data
    except Exception as error:
        raise MalformedPacket("a piece of a stream that cannot be read") from error


class CallBytes:
    """The bytes that a call carries, as a `grpc.tunnel.ByteStream`."""

    def __init__(self, call: Messages) -> None:
        self._call = call
        self._is_closed = False

    async def read(self) -> bytes:
        """Return some bytes, none at the end; a call that failed has ended, too."""
        while not self._is_closed:
            try:
                messages = await self._call.receive_all()
                if not messages:
                    return b""
                data = b"".join(map(unwrap, messages))
            except MalformedPacket as error:
                raise RpcError(Code.INVALID_ARGUMENT, str(error)) from error
            if data:
                return data
        return b""

    async def write(self, data: bytes, /) -> None:
        if data:
            await self._call.send(wrap(data))

    def close(self) -> None:
        """Read nothing any more; the call's owner ends it."""
        self._is_closed = True
