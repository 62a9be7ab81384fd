"""Notices that files of directories have changed: one descriptor of the kernel's for all who wait [EP-26, ENG-35]."""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress

_MODIFY, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x80, 0x100, 0x200
_HEAD = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16


class FolderNotices:
    """All directories that somebody watches.

    Where the kernel gives no more watches, waiting ends by its time alone.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._waiting: dict[int, set[asyncio.Event]] = {}

    @contextmanager
    def watch(self, path: str) -> Generator[asyncio.Event]:
        """Give for the block an event that is set when a file of a directory changes; clear it before you look."""
        changed = asyncio.Event()
        mark = self._mark(path)
        self._waiting.setdefault(mark, set()).add(changed)
        try:
            yield changed
        finally:
            self._waiting[mark].discard(changed)
            if not self._waiting[mark]:
                del self._waiting[mark]
                if mark >= 0:
                    self._libc.inotify_rm_watch(self._fd, mark)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _mark(self, path: str) -> int:
        """Return the kernel's number of a watch, the same for the same directory; -1: there is none."""
        if self._fd < 0:
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._fd, self._read)
        mask = _MODIFY | _MOVED_TO | _CREATE | _DELETE
        mark: int = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        return mark

    def _read(self) -> None:
        with suppress(BlockingIOError):
            data = os.read(self._fd, _BUFFER_BYTES)
            at = 0
            while at < len(data):
                mark, _, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                for changed in self._waiting.get(mark, ()):
                    changed.set()


async def until_set(changed: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
