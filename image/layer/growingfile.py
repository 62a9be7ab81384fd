"""A file that somebody else is still writing, read as it grows."""

from __future__ import annotations

import os

from pybuild.image.layer.faults import refuse

_WAKE_UPS = 4096


class Growing:
    """Reads a file up to the size that it is going to have.

    Whoever writes it appends, and only ever says that there is more; how much, the file knows. So a
    word that was lost between two others, or that came late, changes nothing.
    """

    def __init__(self, fd: int, signals: int, size: int) -> None:
        """Args:
        signals: the read end of a pipe: any byte means that there is more, its end that no more comes.
        size: of the whole file.
        """
        self._fd = fd
        self._signals = signals
        self._size = size
        self._at = 0
        self._over = False

    def read(self, size: int) -> bytes:
        """Return at most *size* of the next bytes, waiting for them; nothing after the last one.

        Raises:
            EnvironmentFault: the writer gave up.
        """
        while True:
            data = os.pread(self._fd, size, self._at)
            self._at += len(data)
            if data or self._at >= self._size:
                return data
            if self._over:
                raise refuse(f"layer blob ends after {self._at} of {self._size} bytes")
            self._over = not os.read(self._signals, _WAKE_UPS)
