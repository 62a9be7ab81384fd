"""Having the disk take what is written while more is being made, so that flushing waits for little."""

from __future__ import annotations

import ctypes

STRIDE = 16 << 20
_SYNC_FILE_RANGE_WRITE = 2
# Not every C library has it.
_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)


class Writeback:
    """Follows a file that is written from its beginning to its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._begun = 0

    def reached(self, size: int) -> None:
        """Have the disk begin with what is there, if it is worth it; never fails, hardly waits."""
        if _sync_file_range is None or size - self._begun < STRIDE:
            return
        start = ctypes.c_int64(self._begun)
        count = ctypes.c_int64(size - self._begun)
        # What cannot be begun (a pipe, an odd file system) is flushed in the end like all else.
        _sync_file_range(self._fd, start, count, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))
        self._begun = size
