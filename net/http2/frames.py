"""Frames (RFC 9113 section 4 and 6): the nine-byte header, and cutting a byte stream into frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag

from pybuild.net.http2.errors import ConnectionFault, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADER = struct.Struct(">HBBBL")
_NOTHING = memoryview(b"")


class FrameType(IntEnum):
    """Frame types; others are ignored."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class FrameFlag(IntFlag):
    """Flags; what one means depends on the frame's type."""

    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


# Plain numbers for the paths that every frame takes: members of an enum cost a lookup each.
_DATA, _HEADERS, _PUSH_PROMISE, _CONTINUATION = 0, 1, 5, 9
_PADDED, _END_STREAM = 0x8, 0x1
_SIZES = {
    FrameType.PRIORITY: 5,
    FrameType.RST_STREAM: 4,
    FrameType.PING: 8,
    FrameType.WINDOW_UPDATE: 4,
}


def header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the nine bytes before a payload."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return header(len(payload), kind, flags, stream_id) + payload


def window_update(stream_id: int, by: int) -> bytes:
    """Return a frame that lets the peer send *by* more bytes."""
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, by.to_bytes(4, "big"))


class FrameReader:
    """Cuts bytes into frames, and large frames into pieces.

    DATA without padding is given out as it arrives: each piece looks like a frame of its own, only
    the last has END_STREAM. So nothing of a body is ever held here. Frames of unknown type are
    given out empty. Others are held until they are whole; *header_bytes* bounds those with headers.
    """

    __slots__ = ("_flags", "_held", "_kind", "_left", "_need", "header_bytes", "max_frame")

    def __init__(self, max_frame: int, header_bytes: int) -> None:
        self.max_frame = max_frame
        self.header_bytes = header_bytes
        self._held = bytearray()
        self._need = 9
        # Of a frame that is given out in pieces: what is left of it.
        self._left = 0
        self._kind = 0
        self._flags = (0, 0)

    def feed(
        self, data: bytes | bytearray | memoryview
    ) -> Iterator[tuple[int, int, int, memoryview]]:
        """Yield (type, flags, stream, payload) of what is complete; views into *data*.

        Raises:
            ConnectionFault: a size that is not allowed.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._need:
                return
            view = memoryview(bytes(self._held))
            self._held.clear()
        else:
            view = memoryview(data)
        at, size = 0, len(view)
        unpack = _HEADER.unpack_from
        while True:
            if self._left:
                take = min(self._left, size - at)
                if not take:
                    return
                self._left -= take
                flags, stream_id = self._flags
                if self._kind != _DATA:
                    if not self._left:
                        yield self._kind, flags, stream_id, _NOTHING
                else:
                    if self._left:
                        flags &= ~_END_STREAM
                    yield _DATA, flags, stream_id, view[at : at + take]
                at += take
            if size - at < 9:
                self._hold(view[at:], 9)
                return
            high, low, kind, flags, stream_id = unpack(view, at)
            length = high << 8 | low
            stream_id &= 0x7FFFFFFF  # the reserved bit is ignored (section 4.1)
            if length > size - at - 9 or kind:
                self._check(kind, length)
                if (kind == _DATA and not flags & _PADDED) or kind > _CONTINUATION:
                    at += 9
                    self._kind, self._flags, self._left = kind, (flags, stream_id), length
                    if not length:
                        yield kind, flags, stream_id, _NOTHING
                    continue
                if length > size - at - 9:
                    self._hold(view[at:], 9 + length)
                    return
            elif length > self.max_frame:
                self._check(kind, length)
            at += 9
            yield kind, flags, stream_id, view[at : at + length]
            at += length

    def _hold(self, rest: memoryview, need: int) -> None:
        self._held += rest
        self._need = need

    def _check(self, kind: int, length: int) -> None:
        """Refuse by the frame's header alone, before anything of it is held."""
        if length > self.max_frame:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR,
                f"frame of {length} bytes, more than the {self.max_frame} allowed",
            )
        if kind in _SIZES and length != _SIZES[FrameType(kind)]:
            raise ConnectionFault(
                ErrorCode.FRAME_SIZE_ERROR, f"{FrameType(kind).name} of {length} bytes"
            )
        if kind in (_HEADERS, _PUSH_PROMISE, _CONTINUATION) and length > self.header_bytes:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"headers of more than {self.header_bytes} bytes",
            )
        if kind in (FrameType.SETTINGS, FrameType.GOAWAY) and length > 16_384:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, f"{FrameType(kind).name} of {length} bytes"
            )


def unpadded(kind: int, flags: int, payload: memoryview) -> memoryview:
    """Return the payload without padding and, of HEADERS, without the priority fields.

    Raises:
        ConnectionFault: the padding is longer than the payload.
    """
    pad = 0
    if flags & _PADDED:
        if not payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without pad length")
        pad = payload[0]
        payload = payload[1:]
    if kind == _HEADERS and flags & 0x20:
        if len(payload) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short for a priority")
        payload = payload[5:]
    if pad > len(payload):
        raise ConnectionFault(
            ErrorCode.PROTOCOL_ERROR, f"padding of {pad} bytes in {len(payload)} bytes"
        )
    return payload[: len(payload) - pad]
