"""Writing to a descriptor; lean, since every process of ours that writes loads it."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of *data*; write(2) may take fewer."""
    written = os.write(fd, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(fd, data)
