"""The events that a `Connection` makes of the bytes that it is given, in their order."""

from __future__ import annotations

from typing import TypeAlias

from pybuild.model.dataclass import dataclass

Fields: TypeAlias = list[tuple[bytes, bytes]]
"""A header list: names in lower case, in order, pseudo-header fields first."""


@dataclass(slots=True)
class Headers:
    """A header section: a request, a response, or trailers; informational responses are left out.

    Attributes:
        end: nothing follows on this stream.
    """

    stream_id: int
    fields: Fields
    end: bool
    trailers: bool = False


@dataclass(slots=True)
class Data:
    """The next part of a body: whatever of it came in a row, of however many frames.

    Attributes:
        pieces: without padding; views that are valid until the connection is given more bytes.
        size: bytes in them.
    """

    stream_id: int
    pieces: list[memoryview]
    size: int
    end: bool


@dataclass(slots=True)
class Reset:
    """The stream ended before its time.

    Attributes:
        by_peer: the peer sent RST_STREAM (or did not take the stream before its GOAWAY); otherwise
            it broke a rule, and we have reset the stream.
    """

    stream_id: int
    code: int
    by_peer: bool
    message: str = ""


@dataclass(slots=True)
class GoneAway:
    """The peer takes no streams after *last_stream_id*; later ones of ours got a `Reset`."""

    last_stream_id: int
    code: int
    debug: bytes


@dataclass(slots=True)
class Ponged:
    """The answer to a PING of ours."""

    data: bytes


@dataclass(slots=True)
class ConnectionFailed:
    """The peer broke the connection's rules; a GOAWAY is ready to be sent, and nothing follows."""

    code: int
    message: str


Event: TypeAlias = Headers | Data | Reset | GoneAway | Ponged | ConnectionFailed
