"""Messages in a body: a flag, four bytes of length, and so many bytes."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterable

from pybuild.net.grpc.status import Code, RpcError

_PREFIX = struct.Struct(">BL")
PREFIX_BYTES = 5
MESSAGE_COST = 150  # of the objects around a message, measured


def prefix(size: int) -> bytes:
    """Return the prefix of a message of *size* bytes, which is not compressed."""
    return _PREFIX.pack(0, size)


class Inbox:
    """Puts messages together from the pieces of a body, and holds them until they are read.

    Attributes:
        size: bytes of the body that are here, also those of a message that is not complete.
        encoding: the ``grpc-encoding`` of messages with the flag.
        ended: the peer has finished; what is in `messages` is still to be read.
    """

    __slots__ = (
        "_body",
        "_flag",
        "_head",
        "_left",
        "_most",
        "_total",
        "encoding",
        "ended",
        "messages",
        "size",
    )

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.messages: deque[tuple[bytes, int]] = deque()
        """With the bytes of the body that each stands for."""
        self.size = 0
        self.encoding = b""
        self.ended = False
        self._head = b""  # of a prefix that is not complete
        self._body: bytearray | None = None  # of a message that is not complete
        self._flag = self._left = self._total = 0

    @property
    def cost(self) -> int:
        """About how much memory is taken; small messages take more than their bytes."""
        return self.size + MESSAGE_COST * len(self.messages)

    @property
    def partial(self) -> int:
        """Bytes here of a message that is not complete."""
        if self._body is None:
            return len(self._head)
        return PREFIX_BYTES + self._total - self._left

    def feed(self, pieces: Iterable[memoryview], size: int) -> None:
        """Take the next pieces of the body, *size* bytes; nothing of them is kept but copies.

        Raises:
            RpcError: a message is too long, or compressed in a way that is not known.
        """
        self.size += size
        take = self.messages.append
        for data in pieces:
            # Most messages fill a piece, as Go frames them.
            if self._body is None and not self._head and len(data) >= PREFIX_BYTES:
                flag, length = _PREFIX.unpack_from(data)
                if not flag and PREFIX_BYTES + length == len(data) and length <= self._most:
                    take((bytes(data[PREFIX_BYTES:]), len(data)))
                    continue
            self._feed(data)

    def _feed(self, data: memoryview) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._body is None:
                if self._head or end - at < PREFIX_BYTES:
                    take = min(PREFIX_BYTES - len(self._head), end - at)
                    self._head += data[at : at + take]
                    at += take
                    if len(self._head) < PREFIX_BYTES:
                        return
                    flag, length = _PREFIX.unpack(self._head)
                    self._head = b""
                else:
                    flag, length = _PREFIX.unpack_from(data, at)
                    at += PREFIX_BYTES
                if flag or length > self._most:
                    self._check(flag, length)
                self._total = self._left = length
                if length <= end - at:
                    self._complete(bytes(data[at : at + length]), flag)
                    at += length
                    continue
                self._body, self._flag = bytearray(), flag
            take = min(self._left, end - at)
            self._body += data[at : at + take]
            self._left -= take
            at += take
            if not self._left:
                body, self._body = self._body, None
                self._complete(bytes(body), self._flag)

    def end(self) -> None:
        """The body is complete.

        Raises:
            RpcError: it ends within a message.
        """
        self.ended = True
        if self.partial:
            raise RpcError(Code.INTERNAL, "the stream ended within a message")

    def _check(self, flag: int, length: int) -> None:
        if flag > 1:
            raise RpcError(Code.INTERNAL, f"message with flag {flag}")
        if flag and self.encoding != b"gzip":
            if self.encoding in (b"", b"identity"):
                raise RpcError(Code.INTERNAL, "compressed message without grpc-encoding")
            name = self.encoding.decode("ascii", "replace")
            raise RpcError(Code.UNIMPLEMENTED, f'message compressed with "{name}": only gzip is')
        if length > self._most:
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"received message larger than max ({length} vs. {self._most})",
            )

    def _complete(self, message: bytes, flag: int) -> None:
        if flag:
            message = _unzip(message, self._most)
        self.messages.append((message, PREFIX_BYTES + self._total))


def _unzip(data: bytes, most: int) -> bytes:
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        message = unzip.decompress(data, most + 1)
    except zlib.error as error:
        raise RpcError(Code.INTERNAL, f"compressed message: {error}") from error
    if len(message) > most:
        raise RpcError(
            Code.RESOURCE_EXHAUSTED, f"received message larger than max ({most}) after gzip"
        )
    if not unzip.eof:
        raise RpcError(Code.INTERNAL, "compressed message ends early")
    return message
