"""The sending half of a connection: frames ready to be written, and bodies that wait for windows."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.net.http2.errors import ConnectionFault, ErrorCode
from pybuild.net.http2.frames import FrameFlag, FrameType, frame, header
from pybuild.net.http2.settings import DEFAULT_WINDOW, MAX_WINDOW, PeerSettings
from pybuild.net.http2.streams import Buffer, Stream

READY_BYTES = 512 << 10
"""The number of bytes made ready ahead of the transport."""
_LARGEST_FRAME = 256 << 10  # so that streams take turns, whatever the peer would take
_DATA, _END_STREAM = int(FrameType.DATA), int(FrameFlag.END_STREAM)


class Outgoing:
    """Turns what streams want to send into frames, in turn, as far as windows and transport go.

    Attributes:
        window: the connection's; streams have their own.
        held: the transport takes nothing now; only control frames are made ready.
        drained: streams whose queue became empty since the owner last looked.
        frames_sent: of DATA and HEADERS, since somebody set it to 0.
    """

    def __init__(self, queued_control: int, on_sent: Callable[[Stream], None]) -> None:
        self.peer = PeerSettings()
        self.window = DEFAULT_WINDOW
        self.held = False
        self.drained: list[int] = []
        self.frames_sent = 0
        self._chunks: list[Buffer] = []
        self._size = 0
        self._control = 0
        self._finished = False
        self._most_control = queued_control
        self._turns: dict[int, Stream] = {}
        self._on_sent = on_sent

    @property
    def size(self) -> int:
        """Bytes that are ready."""
        return self._size

    def control(self, data: bytes) -> None:
        """Send a frame that no window holds back."""
        self._add(data)

    def answer(self, data: bytes) -> None:
        """Send a frame that the peer has made us send.

        Raises:
            ConnectionFault: too many wait, as the peer asks and does not read.
        """
        self._control += 1
        if self._control > self._most_control:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM, f"{self._control} answers wait to be read"
            )
        self._add(data)

    def last(self, data: bytes) -> None:
        """Send the connection's last frame; what waits for windows or comes later is dropped."""
        self._turns.clear()
        self._add(data)
        self._finished = True

    def headers(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """Send a header block, in as many frames as it takes."""
        self.frames_sent += 1
        most = self.peer.max_frame
        flags = int(FrameFlag.END_STREAM) if end else 0
        if len(block) <= most:
            self._add(frame(FrameType.HEADERS, flags | FrameFlag.END_HEADERS, stream_id, block))
            return
        self._add(frame(FrameType.HEADERS, flags, stream_id, block[:most]))
        for at in range(most, len(block), most):
            last = FrameFlag.END_HEADERS if at + most >= len(block) else 0
            self._add(frame(FrameType.CONTINUATION, last, stream_id, block[at : at + most]))

    def body(self, stream: Stream) -> None:
        """Send what *stream* has queued, now as far as possible, the rest by and by."""
        self._turns[stream.id] = stream
        self.pump()

    def wait(self, stream: Stream) -> None:
        """Let the stream take turns again, as its window has grown."""
        self._turns[stream.id] = stream

    def forget(self, stream: Stream) -> None:
        """Drop what the stream still has queued."""
        self._turns.pop(stream.id, None)
        stream.queue.clear()
        stream.queued = 0
        stream.block = None

    def widen(self, by: int) -> None:
        """Raise the connection's window.

        Raises:
            ConnectionFault: above 2**31 - 1.
        """
        if self.window + by > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window overflows")
        self.window += by
        self.pump()

    def pump(self) -> None:
        """Make DATA frames of what waits, one a turn, while anything can be sent."""
        turns = self._turns
        while turns and not self.held and not self._finished and self._size < READY_BYTES:
            stream_id, stream = next(iter(turns.items()))
            if stream.queued:
                size = min(
                    stream.queued,
                    self.window,
                    stream.send_window,
                    self.peer.max_frame,
                    _LARGEST_FRAME,
                )
                if size <= 0:
                    if self.window <= 0:
                        return
                    del turns[stream_id]  # until its own window grows
                    continue
                self._data(stream, size)
            elif stream.ending and stream.block is None:
                self._data(stream, 0)
            if stream.queued:
                if len(turns) > 1:
                    del turns[stream_id]
                    turns[stream_id] = stream
                continue
            del turns[stream_id]
            if stream.ending and stream.block is not None:
                self.headers(stream_id, stream.block, end=True)
                stream.local_closed = True
            self.drained.append(stream_id)
            if stream.local_closed:
                self._on_sent(stream)

    def output(self) -> list[Buffer]:
        """Return the bytes to write, which then are no longer ready; empty when there are none."""
        self.pump()
        chunks = self._chunks
        if chunks:
            self._chunks = []
            self._size = self._control = 0
        return chunks

    def _data(self, stream: Stream, size: int) -> None:
        last = size == stream.queued and stream.ending and stream.block is None
        self._chunks.append(header(size, _DATA, _END_STREAM if last else 0, stream.id))
        if size:
            self._chunks += stream.take(size)
        # Go gives its windows back for each 4 KiB that it has read, twice.
        self.frames_sent += 1 + size // 16_384
        self.window -= size
        stream.send_window -= size
        self._size += size + 9
        stream.local_closed = last

    def _add(self, data: bytes) -> None:
        if self._finished:
            return
        self._chunks.append(data)
        self._size += len(data)
