"""Locks between builds and processes, waited for without blocking the event loop.

Several at once are taken in the order of their names, so two steps that want the same ones in
different order cannot wait for each other [MNT-16]. The kernel lets go when a process dies.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.1


class HeldLock:
    """A lock file that is held."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def try_lock(path: str, *, shared: bool = False) -> HeldLock | None:
    """Take the lock file *path* if that is possible now. Each call opens the file anew."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return HeldLock(fd)


@asynccontextmanager
async def locked(path: str, *, shared: bool = False) -> AsyncGenerator[None]:
    """Hold the lock file *path*; cancelling while waiting is safe."""
    wait_s = _FIRST_WAIT_S
    while (held := try_lock(path, shared=shared)) is None:
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
    try:
        yield
    finally:
        held.release()


@asynccontextmanager
async def locked_all(modes: Mapping[str, bool]) -> AsyncGenerator[None]:
    """Hold all lock files by path, shared where *modes* says so."""
    async with AsyncExitStack() as stack:
        for path in sorted(modes):
            await stack.enter_async_context(locked(path, shared=modes[path]))
        yield
