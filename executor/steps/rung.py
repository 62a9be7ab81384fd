"""On what rung of the ladder a build's steps run, and what follows from that."""

from __future__ import annotations

import asyncio
import fcntl
import os

from pybuild.cache.disk.custody import file_system
from pybuild.cache.store import Store
from pybuild.executor.steps import execop
from pybuild.executor.workers.workers import Workers

_FICLONE = 0x40049409


class Rung:
    """Answers about one store and its workers."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self._root = store.root
        self._workers = workers
        self._on_overlay: bool | None = None

    async def works_on_copies(self) -> bool:
        """Whether no overlay can be mounted, on this rung or in this store."""
        if await self._workers.isolation() == "chroot":
            return True
        if self._on_overlay is None:  # each step asks, and a store does not move
            kind = await asyncio.to_thread(file_system, self._root)
            self._on_overlay = kind == "overlay"  # the upper directory of none
        return self._on_overlay

    async def can_patch(self) -> bool:
        """Whether a copy may become a patch: there are overlays, and no notes about owners."""
        rung = await self._workers.isolation()
        return rung in ("root", "userns") and not await self.works_on_copies()

    async def line(self) -> str:
        """Say on what rung we are and, where that is slow, why."""
        rung, detail = await self._workers.isolation(), await self._workers.isolation_detail()
        copies = ""
        if await self.works_on_copies():
            reflink = await asyncio.to_thread(_can_reflink, os.path.join(self._root, "tmp"))
            copies = execop.copies_line(reflink, self._root)
        runtime = await self._workers.runtime()
        return execop.rung_line(rung, detail, runtime, copies=copies)


def _can_reflink(directory: str) -> bool:
    """Find out, with two small files, whether a copy shares the blocks of its original."""
    import tempfile

    try:
        with (
            tempfile.TemporaryFile(dir=directory) as source,
            tempfile.TemporaryFile(dir=directory) as target,
        ):
            os.write(source.fileno(), bytes(4096))
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        return False
    return True
