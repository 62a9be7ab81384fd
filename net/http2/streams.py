"""The state of one stream, and the memory of those that are over (RFC 9113 section 5.1)."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from pybuild.net.http2.errors import ConnectionFault, ErrorCode
from pybuild.net.http2.settings import MAX_WINDOW

Buffer: TypeAlias = bytes | bytearray | memoryview


class Stream:
    """One stream that is not closed on both sides.

    Attributes:
        send_window: the bytes that the peer takes; negative after it made its initial window smaller.
        receive_window: the bytes that the peer may still send.
        owed: read by the application, not yet given back to the peer's window.
        queue: the data that waits to be sent, *queued* bytes in all.
        block: the encoded trailers that follow the queue.
        ending: nothing follows what is queued.
        abandon: when all is sent, tell the peer that nothing more is expected of it.
        local_closed, remote_closed: END_STREAM was sent, was received.
        answered: the message's first header section has come.
        body_left: the bytes of content-length that are still to come; None without that header.
    """

    __slots__ = (
        "abandon",
        "answered",
        "block",
        "body_left",
        "ending",
        "id",
        "local_closed",
        "owed",
        "queue",
        "queued",
        "receive_window",
        "remote_closed",
        "send_window",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.owed = 0
        self.queue: deque[Buffer] = deque()
        self.queued = 0
        self.block: bytes | None = None
        self.ending = False
        self.abandon = False
        self.local_closed = False
        self.remote_closed = False
        self.answered = False
        self.body_left: int | None = None

    def take(self, size: int) -> list[Buffer]:
        """Remove *size* bytes from the front of the queue."""
        taken: list[Buffer] = []
        queue = self.queue
        self.queued -= size
        while size:
            piece = queue.popleft()
            if len(piece) > size:
                view = memoryview(piece)
                queue.appendleft(view[size:])
                piece = view[:size]
            size -= len(piece)
            taken.append(piece)
        return taken

    def widen(self, by: int) -> None:
        """Let more be sent.

        Raises:
            OverflowError: above 2**31 - 1 (RFC 9113 section 6.9.1).
        """
        if self.send_window + by > MAX_WINDOW:
            raise OverflowError
        self.send_window += by


class ClosedStreams:
    """Remembers the streams that we ended, on which the peer's frames may still be under way.

    Only the newest are remembered one by one; what comes on older ones is taken for late, too.
    """

    def __init__(self, remembered: int) -> None:
        self._ended: dict[int, None] = {}
        self._remembered = remembered
        self._forgotten = 0

    def ended_by_us(self, stream_id: int) -> None:
        """Remember that frames on the stream are no fault of the peer."""
        self._ended[stream_id] = None
        if len(self._ended) > self._remembered:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._forgotten = max(self._forgotten, oldest)

    def check(self, stream_id: int, what: str) -> None:
        """Let a frame on a closed stream pass if it may be late.

        Raises:
            ConnectionFault: the peer had ended the stream itself.
        """
        if stream_id not in self._ended and stream_id > self._forgotten:
            raise ConnectionFault(
                ErrorCode.STREAM_CLOSED, f"{what} on stream {stream_id}, which is closed"
            )
