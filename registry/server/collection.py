"""Freeing what nothing needs, while serving [GC-4].

Nothing that is being pushed is touched: uploads are locked files, a blob's link stays for the time
of a push after it was pushed or asked for, and a blob between its name and its link is leased.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys

from pybuild.cache.repositories.collect import free_unheld, unlink
from pybuild.model.errors import PybuildError
from pybuild.registry.server.hosting import Hosting


async def collect_forever(hosting: Hosting) -> None:
    """Collect every now and then; a failure is told and tried again the next time."""
    every = hosting.settings.collect_every_s
    while every:
        await asyncio.sleep(every)
        try:
            await asyncio.shield(asyncio.to_thread(collect, hosting))
        except (PybuildError, OSError) as error:
            sys.stderr.write(f"warning: cannot collect what nothing needs: {error}\n")


def collect(hosting: Hosting) -> bool:
    """Collect once; False if another process on the same store is at it."""
    store, settings, counted = hosting.store, hosting.settings, hosting.metrics.collected
    path = os.path.join(store.root, "locks", "registry-collection")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        unlinked = unlink(store, settings.keeping)
        counted["manifests",] += unlinked.manifests
        counted["links",] += unlinked.blobs
        counted["uploads",] += hosting.spool.sweep(settings.limits.upload_kept_s)
        freed = free_unheld(store, settings.keeping.blobs)
        counted["blobs",] += freed.blobs
        counted["bytes",] += freed.size
        return True
    finally:
        os.close(fd)
