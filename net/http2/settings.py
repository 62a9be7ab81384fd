"""SETTINGS of both sides (RFC 9113 section 6.5), and the limits that we hold a peer to."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

from pybuild.model.dataclass import dataclass
from pybuild.net.http2.errors import ConnectionFault, ErrorCode

DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
MIN_FRAME = 16_384
MAX_FRAME = 2**24 - 1
_PAIR = struct.Struct(">HL")


class Setting(IntEnum):
    """Identifiers; others are ignored."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """The limits of one peer; sizes in bytes.

    Attributes:
        stream_window: bytes that a stream may send ahead of the application.
        connection_window: the same for all streams together.
        frame_bytes: our MAX_FRAME_SIZE.
        header_bytes: of one header list, as RFC 9113 counts it, and of its encoded form.
        streams: that the peer may have open at once.
        queued_control: control frames that may wait while the peer does not read.
        patience: how many frames that bring nothing (PING, SETTINGS, empty DATA, …) may come at
            once, weighted; a thousand a second are forgiven, and so are some for each useful frame.
        resets: how many streams may be reset at once; a hundred a second are forgiven.
    """

    stream_window: int = 16 << 20
    connection_window: int = 64 << 20
    frame_bytes: int = 1 << 20
    header_bytes: int = 64 << 10
    streams: int = 256
    queued_control: int = 2_000
    patience: int = 20_000
    resets: int = 1_000


@dataclass(slots=True)
class PeerSettings:
    """The settings of the other side, which hold for what we send."""

    initial_window: int = DEFAULT_WINDOW
    max_frame: int = MIN_FRAME
    max_streams: int = 2**32 - 1
    max_header_list: int = 2**32 - 1


def pack(settings: Mapping[Setting, int]) -> bytes:
    """Return the payload of a SETTINGS frame."""
    return b"".join(_PAIR.pack(key, value) for key, value in settings.items())


def unpack(payload: bytes | memoryview, *, from_server: bool) -> Iterator[tuple[Setting, int]]:
    """Yield the known settings of a payload in their order.

    Raises:
        ConnectionFault: the size of the payload or a value is not allowed.
    """
    if len(payload) % 6:
        raise ConnectionFault(
            ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes, not a multiple of 6"
        )
    for key, value in _PAIR.iter_unpack(payload):
        if key == Setting.ENABLE_PUSH and value > (0 if from_server else 1):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        if key == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR,
                f"INITIAL_WINDOW_SIZE of {value} is above {MAX_WINDOW}",
            )
        if key == Setting.MAX_FRAME_SIZE and not MIN_FRAME <= value <= MAX_FRAME:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
        if 1 <= key <= 6:
            yield Setting(key), value
