"""What a peer may use of us."""

from __future__ import annotations

from dataclasses import field

from pybuild.daemon.http2.settings import Http2Limits
from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """All are enforced.

    Attributes:
        message_bytes: of one message, also after decompression.
        unread_bytes: that messages take which nobody has read, over all calls of a connection.
        preface_s: the time to begin the connection.
        http2: the rules below gRPC.
    """

    message_bytes: int = 16 << 20
    unread_bytes: int = 256 << 20
    preface_s: float = 10.0
    http2: Http2Limits = field(default_factory=Http2Limits)
