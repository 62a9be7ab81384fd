"""The receiving half of a connection: frames to events, by the rules of RFC 9113."""

from __future__ import annotations

from collections.abc import Callable

from pybuild.net.http2 import fields as rules
from pybuild.net.http2.compression import DEFAULT_TABLE_BYTES, FieldDecoder
from pybuild.net.http2.errors import ConnectionFault, ErrorCode, StreamFault
from pybuild.net.http2.events import (
    ConnectionFailed,
    Data,
    Event,
    Fields,
    GoneAway,
    Headers,
    Ponged,
    Reset,
)
from pybuild.net.http2.frames import PREFACE, FrameFlag, FrameReader, FrameType, frame, unpadded
from pybuild.net.http2.settings import MAX_WINDOW, Http2Limits, Setting, unpack
from pybuild.net.http2.table import StreamTable

_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8


class Incoming(StreamTable):
    """Follows what the peer sends."""

    def __init__(self, *, client: bool, limits: Http2Limits, clock: Callable[[], float]) -> None:
        super().__init__(client=client, limits=limits, clock=clock)
        self._reader = FrameReader(limits.frame_bytes, limits.header_bytes)
        self._fields = FieldDecoder(limits.header_bytes)
        self._preface = b"" if client else PREFACE
        self._greeted = self._table_shrunk = False
        # Of a header block that has not ended: stream, flags of its first frame, what has come.
        self._block: tuple[int, int, bytearray] | None = None
        self._continuations = 0

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the peer, and return what they mean.

        After a `ConnectionFailed`, or when that came earlier, nothing is read any more.
        """
        events = self._events = []
        if self.failed:
            return events
        try:
            if self._preface:
                data = self._match_preface(data)
            for kind, flags, stream_id, payload in self._reader.feed(data):
                if self._block is None and kind == 0:
                    self._data(flags, stream_id, payload)
                else:
                    self._frame(kind, flags, stream_id, payload)
            self.out.pump()
        except ConnectionFault as fault:
            self.failed = self.closing = True
            self.out.last(self._goodbye(fault.code, fault.message.encode()))
            events.append(ConnectionFailed(fault.code, fault.message))
        return events

    def _match_preface(self, data: bytes | bytearray | memoryview) -> memoryview:
        view = memoryview(data)
        take = min(len(view), len(self._preface))
        if bytes(view[:take]) != self._preface[:take]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2 connection preface")
        self._preface = self._preface[take:]
        return view[take:]

    def _data(self, flags: int, stream_id: int, payload: memoryview) -> None:
        """Take a piece of a body.

        Small files arrive in a frame for each message, so this is short where nothing is special:
        an answered stream has been greeted, and none of its frames has flags but the last.
        """
        size = len(payload)
        stream = self.streams.get(stream_id)
        if (
            flags
            or stream is None
            or not size
            or not stream.answered
            or stream.remote_closed
            or stream.body_left is not None
            or size > stream.receive_window
            or size > self._receive_window
        ):
            self._special_data(flags, stream_id, payload)
            return
        self._receive_window -= size
        stream.receive_window -= size
        self._useful += 1
        self._hand_on(stream_id, payload, size)

    def _hand_on(self, stream_id: int, payload: memoryview, size: int) -> None:
        """Report a piece, together with the one before it if nothing came between."""
        events = self._events
        if events:
            last = events[-1]
            if type(last) is Data and last.stream_id == stream_id:
                last.pieces.append(payload)
                last.size += size
                return
        events.append(Data(stream_id, [payload], size, False))

    def _special_data(self, flags: int, stream_id: int, payload: memoryview) -> None:
        """Take any piece of a body; padding counts for the windows only (section 6.1)."""
        size = len(payload)
        if not self._greeted or not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"DATA on stream {stream_id}")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late(stream_id, "DATA")
        if size > self._receive_window:
            raise ConnectionFault(
                ErrorCode.FLOW_CONTROL_ERROR, f"{size} bytes, window {self._receive_window}"
            )
        self._receive_window -= size
        if flags & _PADDED:
            payload = unpadded(FrameType.DATA, flags, payload)
        if stream is None:
            self._owe(size)
            return
        if stream.remote_closed or not stream.answered:
            self._owe(size)
            code = ErrorCode.STREAM_CLOSED if stream.answered else ErrorCode.PROTOCOL_ERROR
            self._break(StreamFault(stream_id, code, "DATA out of place"))
            return
        try:
            if size > stream.receive_window:
                raise StreamFault(
                    stream_id,
                    ErrorCode.FLOW_CONTROL_ERROR,
                    f"{size} bytes, window {stream.receive_window}",
                )
            stream.receive_window -= size
            end = flags & _END_STREAM != 0
            if stream.body_left is not None:
                stream.body_left -= len(payload)
                if stream.body_left < 0 or (end and stream.body_left):
                    raise StreamFault(
                        stream_id, ErrorCode.PROTOCOL_ERROR, "body and content-length differ"
                    )
        except StreamFault as fault:
            self._owe(size)
            self._break(fault)
            return
        if len(payload) != size:
            self._owe(size - len(payload))
            self._owe_stream(stream, size - len(payload))
        if payload:
            self._useful += 1
        elif not end:
            self._spend(10, "empty frames")
        if end:
            self._events.append(Data(stream_id, [payload], len(payload), end))
            self._ended(stream)
        else:
            self._hand_on(stream_id, payload, len(payload))

    def _frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        if not self._greeted and (kind != FrameType.SETTINGS or flags & _ACK):
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"the first frame is of type {kind}, not SETTINGS"
            )
        if self._block is not None:
            if kind != FrameType.CONTINUATION or stream_id != self._block[0]:
                raise ConnectionFault(
                    ErrorCode.PROTOCOL_ERROR, f"frame of type {kind} within a header block"
                )
            self._continuation(flags, payload)
            return
        if kind > FrameType.CONTINUATION:
            self._spend(10, "frames of unknown type")
            return
        if (stream_id == 0) != (
            kind in (FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY)
        ) and (kind != FrameType.WINDOW_UPDATE):
            raise ConnectionFault(
                ErrorCode.PROTOCOL_ERROR, f"{FrameType(kind).name} on stream {stream_id}"
            )
        match kind:
            case FrameType.HEADERS:
                self._block = (stream_id, flags, bytearray(unpadded(kind, flags, payload)))
                self._continuations = 0
                if flags & _END_HEADERS:
                    self._end_block()
            case FrameType.WINDOW_UPDATE:
                self._window_update(stream_id, int.from_bytes(payload, "big") & MAX_WINDOW)
            case FrameType.SETTINGS:
                self._settings(flags, payload)
            case FrameType.PING:
                if flags & _ACK:
                    self._events.append(Ponged(bytes(payload)))
                else:
                    self._spend(10, "PING frames")
                    self.out.answer(frame(FrameType.PING, FrameFlag.ACK, 0, bytes(payload)))
            case FrameType.RST_STREAM:
                self._reset_by_peer(stream_id, int.from_bytes(payload, "big"))
            case FrameType.GOAWAY:
                self._goaway(payload)
            case FrameType.PRIORITY:
                self._spend(10, "PRIORITY frames")
            case _:  # we switch push off, and CONTINUATION needs a block to continue
                raise ConnectionFault(
                    ErrorCode.PROTOCOL_ERROR, f"unexpected {FrameType(kind).name}"
                )

    def _continuation(self, flags: int, payload: memoryview) -> None:
        assert self._block is not None
        block = self._block[2]
        block += payload
        self._continuations += 1
        most = self.limits.header_bytes
        if len(block) > most or self._continuations > 16 + most // 4096:
            raise ConnectionFault(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"header block of {len(block)} bytes in {self._continuations + 1} frames",
            )
        if flags & _END_HEADERS:
            self._end_block()

    def _end_block(self) -> None:
        assert self._block is not None
        stream_id, flags, block = self._block
        self._block = None
        # Always decoded, also when nobody wants it: later blocks build on it.
        decoded = self._fields.decode(bytes(block))
        end = flags & _END_STREAM != 0
        try:
            self._headers(stream_id, decoded, end)
        except StreamFault as fault:
            self._break(fault)
        except rules.Malformed as fault:
            self._break(StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, str(fault)))

    def _headers(self, stream_id: int, decoded: Fields, end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._open(stream_id)
            if stream is None:
                return
        if stream.remote_closed:
            raise StreamFault(stream_id, ErrorCode.STREAM_CLOSED, "HEADERS after the end")
        trailers = stream.answered
        if trailers:
            if not end:
                raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "trailers without an end")
            rules.check_trailers(decoded)
        elif self.client:
            status = rules.check_response(decoded)
            if status < 200:
                if end or status == 101:
                    raise rules.Malformed(f"response {status} in HTTP/2")
                self._spend(10, "informational responses")
                return
        else:
            rules.check_request(decoded)
        if not trailers:
            stream.answered = True
            stream.body_left = rules.content_length(decoded)
        if end and stream.body_left:
            raise StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "body and content-length differ")
        self._events.append(Headers(stream_id, decoded, end, trailers))
        if end:
            self._ended(stream)

    def _settings(self, flags: int, payload: memoryview) -> None:
        if flags & _ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "acknowledgement with settings")
            return
        self._greeted = True
        self._spend(20 + len(payload) // 6, "SETTINGS frames")
        peer = self.out.peer
        window = peer.initial_window
        for setting, value in unpack(payload, from_server=self.client):
            match setting:
                case Setting.INITIAL_WINDOW_SIZE:
                    window = value
                case Setting.MAX_FRAME_SIZE:
                    peer.max_frame = value
                case Setting.MAX_CONCURRENT_STREAMS:
                    peer.max_streams = value
                case Setting.MAX_HEADER_LIST_SIZE:
                    peer.max_header_list = value
                case Setting.HEADER_TABLE_SIZE:
                    self._table_shrunk = self._table_shrunk or value < DEFAULT_TABLE_BYTES
                case Setting.ENABLE_PUSH:
                    pass  # we never push
        by, peer.initial_window = window - peer.initial_window, window
        if by:
            for stream in self.streams.values():
                self._widen(stream, by)
        self.out.answer(frame(FrameType.SETTINGS, FrameFlag.ACK, 0))

    def _window_update(self, stream_id: int, by: int) -> None:
        self._spend(1, "WINDOW_UPDATE frames")
        if stream_id == 0:
            if not by:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.out.widen(by)
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_idle(stream_id, "WINDOW_UPDATE")
        elif not by:
            self._break(StreamFault(stream_id, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0"))
        else:
            try:
                self._widen(stream, by)
            except ConnectionFault as fault:
                self._break(StreamFault(stream_id, fault.code, fault.message))

    def _reset_by_peer(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_idle(stream_id, "RST_STREAM")
            self._spend(10, "RST_STREAM frames")
            return
        if not self.client:
            self._resets.spend(1, "streams reset")
        self._drop(stream)
        self._events.append(Reset(stream_id, code, by_peer=True))

    def _goaway(self, payload: memoryview) -> None:
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY too short")
        self._spend(100, "GOAWAY frames")
        last = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        code = int.from_bytes(payload[4:8], "big")
        self.closing = True
        self._events.append(GoneAway(last, code, bytes(payload[8:])))
        if self.client:
            for stream in [s for s in self.streams.values() if s.id > last]:
                self._drop(stream)
                self._events.append(Reset(stream.id, ErrorCode.REFUSED_STREAM, by_peer=True))
