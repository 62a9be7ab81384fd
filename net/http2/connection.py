"""One HTTP/2 connection without I/O: give it the peer's bytes, write what it has to say."""

from __future__ import annotations

import time
from collections.abc import Callable

from pybuild.net.http2.compression import encode
from pybuild.net.http2.errors import ErrorCode, StreamGone
from pybuild.net.http2.events import Fields
from pybuild.net.http2.frames import PREFACE, FrameType, frame, window_update
from pybuild.net.http2.incoming import Incoming
from pybuild.net.http2.settings import DEFAULT_WINDOW, Http2Limits, Setting, pack
from pybuild.net.http2.streams import Buffer, Stream

_LAST_ID = 2**31 - 1
_MOST_HEADERS = 1 << 20


class Connection(Incoming):
    """One side of a connection; `receive` is inherited.

    The owner writes what `output` returns after each call that may have made something, stops
    asking for it while *held*, and looks into *drained* for streams whose queue became empty.
    """

    def __init__(
        self,
        *,
        client: bool,
        limits: Http2Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client=client, limits=limits or Http2Limits(), clock=clock)
        self._next_id = 1
        limits = self.limits
        settings = {
            Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
            Setting.MAX_FRAME_SIZE: limits.frame_bytes,
            Setting.MAX_HEADER_LIST_SIZE: limits.header_bytes,
        }
        if client:
            settings[Setting.ENABLE_PUSH] = 0
        else:
            settings[Setting.MAX_CONCURRENT_STREAMS] = limits.streams
        self.out.control(
            (PREFACE if client else b"")
            + frame(FrameType.SETTINGS, 0, 0, pack(settings))
            + window_update(0, limits.connection_window - DEFAULT_WINDOW)
        )

    @property
    def can_open(self) -> bool:
        """Return whether the peer takes one more stream now; it may again when another has ended."""
        return len(self.streams) < self.out.peer.max_streams

    def header_room(self, fields: Fields) -> int:
        """Return the number of bytes that the peer takes in a header list beside *fields*, at most 1 MiB."""
        taken = sum(len(name) + len(value) + 32 for name, value in fields)
        return max(min(self.out.peer.max_header_list, _MOST_HEADERS) - taken, 0)

    def open(self, fields: Fields, *, end: bool = False) -> int:
        """Send a request's headers, as a client, and return the new stream's number.

        Raises:
            StreamGone: no more streams can be opened on this connection.
        """
        if not self.client or self.closing or self._next_id > _LAST_ID:
            raise StreamGone("the connection takes no more streams")
        stream_id = self._next_id
        self._next_id += 2
        self._newest_own = stream_id
        stream = Stream(stream_id, self.out.peer.initial_window, self.limits.stream_window)
        self.streams[stream_id] = stream
        self.out.headers(stream_id, self._encode(fields), end=end)
        stream.local_closed = end
        return stream_id

    def send_headers(self, stream_id: int, fields: Fields) -> None:
        """Send a header section that is not the last thing on its stream.

        Raises:
            StreamGone: the stream has ended.
        """
        self._sending(stream_id)
        self.out.headers(stream_id, self._encode(fields), end=False)

    def answer(self, stream_id: int, fields: Fields, *, at_once: bool = False) -> None:
        """Send the last header section of a response, after all that is queued.

        Nothing more is expected of the peer either; if it has not finished, it is told so when all
        is sent (RFC 9113 section 8.1).

        Args:
            at_once: drop what is queued, which the peer may never make room for.

        Raises:
            StreamGone: the stream has ended.
        """
        stream = self._sending(stream_id)
        if at_once:
            self.out.forget(stream)
        stream.ending = stream.abandon = True
        stream.block = self._encode(fields)
        self.out.body(stream)

    def send_data(self, stream_id: int, *pieces: Buffer, end: bool = False) -> int:
        """Send a part of a body, or queue what windows or the transport hold back.

        The pieces belong to the connection from now on; who changes them changes what is sent.

        Returns:
            How many bytes of the stream are queued.

        Raises:
            StreamGone: the stream has ended.
        """
        stream = self._sending(stream_id)
        for piece in pieces:
            if piece:
                stream.queue.append(piece)
                stream.queued += len(piece)
        stream.ending = end
        if stream.queued or end:
            self.out.body(stream)
        return stream.queued

    def queued(self, stream_id: int) -> int:
        """Return the number of bytes that wait to be sent; 0 also when the stream is over."""
        stream = self.streams.get(stream_id)
        return stream.queued if stream else 0

    def reset(self, stream_id: int, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """End a stream at once; nothing happens if it is over already."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._reset(stream, code, is_requested=True)

    def consumed(self, stream_id: int, size: int) -> None:
        """Give the peer back the window of so many bytes that the application has read."""
        self._owe(size)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._owe_stream(stream, size)

    def ping(self, data: bytes) -> None:
        """Send a PING of eight bytes, which a `Ponged` will answer."""
        self.out.control(frame(FrameType.PING, 0, 0, data))

    def go_away(self) -> None:
        """Take no more streams from the peer; those that are open go on."""
        if self.going_away:
            return
        self.going_away = self.closing = True
        self.out.control(self._goodbye(ErrorCode.NO_ERROR, b""))

    def output(self) -> list[Buffer]:
        """Return the pieces to write next; empty when there is nothing to say."""
        return self.out.output()

    def _sending(self, stream_id: int) -> Stream:
        stream = self.streams.get(stream_id)
        if stream is None or stream.local_closed or stream.ending or self.failed:
            raise StreamGone(f"stream {stream_id} has ended")
        return stream

    def _encode(self, fields: Fields) -> bytes:
        block = encode(fields)
        if self._table_shrunk:
            # Our encoder keeps no table, whatever its size; the peer wants to be told once.
            self._table_shrunk = False
            block = b"\x20" + block
        return block
