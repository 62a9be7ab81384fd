"""The streams of a connection: how they begin and end, and the windows that they share."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.net.http2.errors import ConnectionFault, ErrorCode, StreamFault
from pybuild.net.http2.events import Event, Reset
from pybuild.net.http2.frames import FrameType, frame, window_update
from pybuild.net.http2.outgoing import Outgoing
from pybuild.net.http2.settings import Http2Limits
from pybuild.net.http2.streams import ClosedStreams, Stream


class StreamTable:
    """The state that both halves of a connection share.

    Attributes:
        streams: those that are not closed on both sides, by number.
        out: the sending half.
        closing: no new streams, as one side said GOAWAY.
        going_away: we said it.
        failed: the connection is over.
    """

    def __init__(self, *, client: bool, limits: Http2Limits, clock: Callable[[], float]) -> None:
        self.client = client
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.out = Outgoing(limits.queued_control, self._sent)
        self.closing = self.going_away = self.failed = False
        self._events: list[Event] = []
        self._closed = ClosedStreams(2 * limits.resets)
        self._newest_own = self._newest_theirs = 0
        self._receive_window = limits.connection_window
        self._owed = 0
        self._idle = Allowance(limits.patience, 1_000, clock)
        self._useful = 0  # frames with data since patience was last asked for
        self._resets = Allowance(limits.resets, 100, clock)

    def _open(self, stream_id: int) -> Stream | None:
        """Return the new stream that the peer opens, or None when its headers go nowhere."""
        if self.client or stream_id % 2 == 0 or stream_id <= self._newest_theirs:
            self._late(stream_id, "HEADERS")
            return None
        if self.going_away:
            self._spend(10, "streams after GOAWAY")
            return None
        self._newest_theirs = stream_id
        stream = Stream(stream_id, self.out.peer.initial_window, self.limits.stream_window)
        refused = len(self.streams) >= self.limits.streams
        self.streams[stream_id] = stream
        if refused:
            self._resets.spend(1, "streams above the limit")
            self._reset(stream, ErrorCode.REFUSED_STREAM)
            return None
        return stream

    def _sent(self, stream: Stream) -> None:
        """All of the stream is sent: it is over if the peer has ended it, too, or must now."""
        if stream.remote_closed:
            self.streams.pop(stream.id, None)
        elif stream.abandon:
            self._reset(stream, ErrorCode.NO_ERROR, is_requested=True)

    def _ended(self, stream: Stream) -> None:
        """The peer sends nothing more on the stream."""
        stream.remote_closed = True
        if stream.local_closed:
            self.streams.pop(stream.id, None)

    def _drop(self, stream: Stream) -> None:
        self.out.forget(stream)
        self.streams.pop(stream.id, None)

    def _reset(self, stream: Stream, code: ErrorCode, *, is_requested: bool = False) -> None:
        """End the stream; *is_requested*: by our own side, not because of what the peer sent."""
        self._drop(stream)
        self._closed.ended_by_us(stream.id)
        send = self.out.control if is_requested else self.out.answer
        send(frame(FrameType.RST_STREAM, 0, stream.id, int(code).to_bytes(4, "big")))

    def _break(self, fault: StreamFault) -> None:
        """Reset the stream for the peer's fault, and tell the owner."""
        stream = self.streams.get(fault.stream_id)
        if stream is not None:
            self._resets.spend(1, "stream errors")
            self._reset(stream, fault.code)
            self._events.append(
                Reset(fault.stream_id, fault.code, by_peer=False, message=fault.message)
            )

    def _check_idle(self, stream_id: int, what: str) -> None:
        """Refuse a frame on a stream that nobody has opened."""
        if stream_id % 2 == self.client:
            idle = stream_id > self._newest_own
        else:
            # After our GOAWAY the streams that the peer still opens are not followed.
            idle = stream_id > self._newest_theirs and (
                self.client or not self.going_away or not stream_id % 2
            )
        if idle:
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which is idle"
            )

    def _late(self, stream_id: int, what: str) -> None:
        """Let pass what may have been under way when the stream ended."""
        self._spend(1, "frames on closed streams")
        self._check_idle(stream_id, what)
        if not (self.going_away and stream_id > self._newest_theirs):
            self._closed.check(stream_id, what)

    def _widen(self, stream: Stream, by: int) -> None:
        try:
            stream.widen(by)
        except OverflowError:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, f"the window of stream {stream.id} overflows"
            ) from None
        if stream.queued and stream.send_window > 0:
            self.out.wait(stream)

    def _owe(self, size: int) -> None:
        """Give back so many bytes of the connection's window, together with others."""
        self._owed += size
        if self._owed * 4 >= self.limits.connection_window:
            self._receive_window += self._owed
            self.out.control(window_update(0, self._owed))
            self._owed = 0

    def _owe_stream(self, stream: Stream, size: int) -> None:
        """Give back so many bytes of a stream's window, if the peer has a use for it."""
        stream.owed += size
        if stream.owed * 4 >= self.limits.stream_window and not stream.remote_closed:
            stream.receive_window += stream.owed
            self.out.control(window_update(stream.id, stream.owed))
            stream.owed = 0

    def _spend(self, points: int, why: str) -> None:
        """Count a frame that brings nothing; who is sent something may well answer a lot."""
        useful = self._useful + self.out.frames_sent
        if useful:
            self._idle.earn(10 * useful)
            self._useful = self.out.frames_sent = 0
        self._idle.spend(points, why)

    def _goodbye(self, code: ErrorCode, debug: bytes) -> bytes:
        last = self._newest_theirs.to_bytes(4, "big")
        return frame(FrameType.GOAWAY, 0, 0, last + int(code).to_bytes(4, "big") + debug)


class Allowance:
    """Holds a peer to a number of frames that cost us work and bring nothing.

    A bucket of *capacity* points that refills by *per_s* each second.
    """

    __slots__ = ("_capacity", "_clock", "_left", "_per_s", "_then")

    def __init__(self, capacity: int, per_s: float, clock: Callable[[], float]) -> None:
        self._capacity = float(capacity)
        self._per_s = per_s
        self._clock = clock
        self._left = float(capacity)
        self._then = clock()

    def spend(self, points: int, why: str) -> None:
        """Take *points*.

        Raises:
            ConnectionFault: there are not so many, also not with those of the time that passed.
        """
        self._left -= points
        if self._left < 0:
            now = self._clock()
            self._left = min(self._capacity, self._left + (now - self._then) * self._per_s)
            self._then = now
            if self._left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too many {why}")

    def earn(self, points: int) -> None:
        """Give some back, for a frame that was of use."""
        self._left = min(self._capacity, self._left + points)
