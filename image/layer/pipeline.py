"""Pieces of a stream, worked on by several threads and handed on in their order.

What is done to a piece is C that lets go of the interpreter: digests, compressors, system calls. Made
of the interpreter's C parts alone, because `threading` would be imported by every worker. Lean.
"""

from __future__ import annotations

import _thread
from _queue import SimpleQueue

from pybuild.image.layer.pieces import PIECE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Piece:
    """A part of the stream: *size* bytes of *buffer*, and the end of what is *before* it."""

    __slots__ = ("before", "buffer", "done", "error", "packed", "size")

    def __init__(self, buffer: bytearray, size: int, before: bytes) -> None:
        self.buffer = buffer
        self.size = size
        self.before = before
        self.packed = b""
        self.error: BaseException | None = None
        self.done = _thread.allocate_lock()

    def result(self) -> bytes:
        """Wait for what was made of it.

        Raises:
            what that failed with.
        """
        with self.done:
            if self.error is not None:
                raise self.error
            return self.packed


class Pipeline:
    """Runs *pack* on pieces wherever a thread is free, then *end* on each, in order, in one thread.

    Args:
        pack: returns what becomes of a piece, None: nothing has to be made of it.
        threads: how many may run *pack* at once; a stream that must be packed in order has one.
    """

    def __init__(
        self, pack: Callable[[Piece], bytes] | None, end: Callable[[Piece], None], threads: int
    ) -> None:
        self._pack = pack
        self._end = end
        self._failure: BaseException | None = None
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._todo: SimpleQueue[Piece | None] = SimpleQueue()
        self._order: SimpleQueue[Piece | None] = SimpleQueue()
        self._spare = 2 * threads + 2  # buffers that may still be made
        self._ended = _thread.allocate_lock()
        self._ended.acquire()
        self._packers = 0
        _thread.start_new_thread(self._end_pieces, ())
        try:
            while pack is not None and self._packers < threads:
                _thread.start_new_thread(self._pack_pieces, (pack,))
                self._packers += 1
        except RuntimeError:  # as many threads as this user may have
            if not self._packers:
                self._order.put(None)
                raise

    def put(self, piece: Piece) -> bytearray:
        """Hand over the next piece, return a buffer for the one after it.

        Raises:
            what an earlier piece failed with.
        """
        self._hand_over(piece)
        if self._failure is not None:
            raise self._failure
        if self._spare:
            self._spare -= 1
            return bytearray(PIECE)
        return self._free.get()

    def finish(self) -> None:
        """Wait until all pieces are through.

        Raises:
            what one of them failed with.
        """
        self.stop()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Return when no thread works on anything any more; idempotent."""
        for _ in range(self._packers):
            self._todo.put(None)
        self._packers = 0
        self._order.put(None)
        with self._ended:
            pass

    def _hand_over(self, piece: Piece) -> None:
        if self._pack is not None:
            piece.done.acquire()
            self._todo.put(piece)
        self._order.put(piece)

    def _pack_pieces(self, pack: Callable[[Piece], bytes]) -> None:
        while (piece := self._todo.get()) is not None:
            try:
                piece.packed = pack(piece)
            except BaseException as error:  # noqa: BLE001 - raised where the stream is written
                piece.error = error
            piece.done.release()

    def _end_pieces(self) -> None:
        while (piece := self._order.get()) is not None:
            try:
                if self._failure is None:
                    self._end(piece)
            except BaseException as error:  # noqa: BLE001 - as above
                self._failure = error
            with piece.done:  # its buffer may be in use however this went
                self._free.put(piece.buffer)
        self._ended.release()
