"""The limits of one peer, and of all peers together."""

from __future__ import annotations

from dataclasses import field

from pybuild.model.dataclass import dataclass
from pybuild.net.http2.settings import Http2Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """All are enforced.

    Attributes:
        message_bytes: of one message, also after decompression.
        unread_bytes: that messages take which nobody has read, over all calls of an owner.
        preface_s: the time to begin the connection, TLS and all.
        connections: at once, by one address that we listen on.
        peer_connections: those from one machine, or of one user.
        waiting: those that have not begun; when there are more, the one that waits longest goes.
        idle_s: how long a connection may stay without a call.
        http2: the rules below gRPC.
    """

    message_bytes: int = 16 << 20
    unread_bytes: int = 256 << 20
    preface_s: float = 10.0
    connections: int = 1000
    peer_connections: int = 250
    waiting: int = 100
    idle_s: float = 600.0
    http2: Http2Limits = field(default_factory=Http2Limits)
