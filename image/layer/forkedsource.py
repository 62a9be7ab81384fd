"""A layer's blob decompressed and digested by a process of its own, beside the one that unpacks it.

Decompressing and digesting take as long as making the files, and ISA-L holds the interpreter's lock
meanwhile, so a thread would win nothing. What comes out goes through a ring of shared memory, from
which files are written: a pipe would copy every byte twice more.
"""

from __future__ import annotations

import marshal
import mmap
import os

from pybuild.image.layer.faults import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from pybuild.image.layer.compression import LayerSource

_SLOT = 256 << 10
_SLOTS = 16
_COUNT_BYTES = 4
_SIGKILL = 9


class ForkedSource:
    """The bytes of a `LayerSource`, made in a child process. Close it. For processes with one thread."""

    def __init__(self, make: Callable[[], LayerSource], fds: Sequence[int]) -> None:
        """Args:
        make: opens the source; called in the other process.
        fds: all the descriptors that the source reads from.
        """
        self.diff_id = self.digest = ""
        self.size = self.compressed_size = 0
        self._ring = memoryview(mmap.mmap(-1, _SLOT * _SLOTS))
        self._slot = 0
        self._is_lent = self._is_over = False
        self._filled, filled = os.pipe()
        free, self._free = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become(make, self._ring, filled, free, fds)
        os.close(filled)
        os.close(free)

    def read(self) -> bytes | memoryview:
        """Return the next piece, good until the next call; nothing at the end.

        Raises:
            EnvironmentFault: as `LayerSource.read`.
        """
        if self._is_over:
            return b""
        if self._is_lent:
            self._is_lent = False
            try:
                os.write(self._free, b"\0")
            except BrokenPipeError:
                pass  # it is done: what it still has to say is in the other pipe
        count = int.from_bytes(self._exactly(_COUNT_BYTES), "little")
        if not count:
            self._end()
            return b""
        start = self._slot * _SLOT
        self._slot = (self._slot + 1) % _SLOTS
        self._is_lent = True
        self.size += count
        return self._ring[start : start + count]

    def drain(self) -> None:
        """Read to the end, for the digests' sake."""
        while self.read():
            pass

    def close(self) -> None:
        """End the other process; idempotent."""
        if self.pid:
            os.close(self._filled)
            os.close(self._free)
            os.kill(self.pid, _SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def _end(self) -> None:
        self._is_over = True
        text = b""
        while piece := os.read(self._filled, 1 << 16):
            text += piece
        kind, *values = marshal.loads(text)
        if kind == "fault":
            message, hints = values
            raise refuse(message, *hints)
        self.diff_id, self.digest, self.compressed_size = values

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = os.read(self._filled, count - len(data))
            if not piece:
                raise refuse(
                    "the process that decompresses a layer has ended",
                    "free memory: the kernel may have killed it",
                )
            data += piece
        return data


def _become(
    make: Callable[[], LayerSource], ring: memoryview, filled: int, free: int, fds: Sequence[int]
) -> NoReturn:
    """Be the other process."""
    try:
        # Above all the job's channel: that it closes says that the job is gone.
        _close_all_but({filled, free, *fds})
        try:
            source = make()
            _fill(source, ring, filled, free)
            results = (source.diff_id, source.digest, source.compressed_size)
            outcome = marshal.dumps(("done", *results))
        except (BrokenPipeError, EOFError):
            os._exit(0)  # nobody wants it any more
        except BaseException as error:  # noqa: BLE001 - all of it is reported
            message = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
            outcome = marshal.dumps(("fault", message, list(getattr(error, "hints", ()))))
        os.write(filled, bytes(_COUNT_BYTES) + outcome)
    finally:
        os._exit(0)


def _fill(source: LayerSource, ring: memoryview, filled: int, free: int) -> None:
    unused, slot, at = _SLOTS, 0, 0
    while piece := source.read():
        rest = memoryview(piece)
        while rest:
            if not at and not unused:
                returned = len(os.read(free, _SLOTS))
                if not returned:
                    raise EOFError
                unused += returned
            start = slot * _SLOT + at
            part = rest[: _SLOT - at]
            ring[start : start + len(part)] = part
            rest = rest[len(part) :]
            at += len(part)
            if at == _SLOT:
                os.write(filled, at.to_bytes(_COUNT_BYTES, "little"))
                slot, at, unused = (slot + 1) % _SLOTS, 0, unused - 1
    if at:
        os.write(filled, at.to_bytes(_COUNT_BYTES, "little"))


def _close_all_but(kept: set[int]) -> None:
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))
