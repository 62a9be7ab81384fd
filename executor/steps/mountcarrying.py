"""Taking a cache mount out of the store, and bringing one in [MNT-14]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pybuild.cache.content.cachemounts import CacheMount, begin, put
from pybuild.cache.disk.atomic import faults
from pybuild.cache.store import Store
from pybuild.executor.files.values import OwnerMode
from pybuild.executor.steps.cachemounts import lock_path, name_of
from pybuild.executor.trees.flocks import HeldLock, try_lock
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from pybuild.executor.steps import mounttars
    from pybuild.executor.steps.mountchunks import PackedMount
else:
    mounttars = WorkerModule("pybuild.executor.steps.mounttars")

_DEFAULT_LOOK = OwnerMode(0, 0, 0o755)


async def export_mount(store: Store, workers: Workers, mount: CacheMount, out: int) -> None:
    """Write the files of *mount* as a tar to the descriptor *out*; nobody changes them meanwhile.

    Raises:
        UserError: a build uses it. EnvironmentFault: it cannot be read, or *out* not written.
    """
    held = _hold(store, mount.name, mount.id)
    try:
        with store.leases.create() as lease:
            await asyncio.to_thread(lease.add, "mount", mount.name)
            path = os.path.join(store.mounts_dir, mount.name, "fs")
            if not os.path.isdir(path):
                raise UserError(f'there is no cache mount "{mount.id}" any more')
            await workers.call(job(mounttars.export_job, path), fds=[out])
    finally:
        held.release()


async def import_mount(
    store: Store, workers: Workers, id: str, archive: int, called: str
) -> CacheMount:
    """Make the files of the tar *archive*, an open file, the content of the cache mount *id*.

    What the mount held is gone then; owner and mode of its root stay. It is whole or as before.

    Args:
        called: what messages call the archive.

    Raises:
        UserError: a build uses the mount; no archive, or one that would leave its directory.
        EnvironmentFault: it cannot be written.
    """
    name = name_of(id)
    home = os.path.join(store.mounts_dir, name)
    made = store.scratch("cache")
    held = _hold(store, name, id)
    try:
        with store.leases.create() as lease:
            await asyncio.to_thread(lease.add, "mount", name)
            with faults(f'cannot import cache mount "{id}"', store.root):
                facts = {"id": id, "created": store.clock.now(), "seeded": False}
                await asyncio.to_thread(begin, store, made, facts)
                target = os.path.join(made, "fs")
                work = job(mounttars.import_job, target, _look(home), called)
                await workers.call(work, fds=[archive], writes=target)
                put(store, made, name)
    finally:
        held.release()
        if os.path.lexists(made):
            store.discard(made)
    now = store.clock.now()
    return CacheMount(name=name, id=id, seeded=False, created=now, last_used=now, in_use=False)


async def pack_mount(
    store: Store,
    workers: Workers,
    mount: tuple[str, str],
    packing: Callable[[str], Job[PackedMount]],
) -> PackedMount | None:
    """Do the job *packing* on the files of a mount, by name and id; None if it is gone.

    Raises:
        UserError: a build uses it.
    """
    name, id = mount
    held = _hold(store, name, id)
    try:
        path = os.path.join(store.mounts_dir, name, "fs")
        if not os.path.isdir(path):
            return None
        with store.leases.create() as lease:
            await asyncio.to_thread(lease.add, "mount", name)
            return await workers.call(packing(path))
    finally:
        held.release()


def _hold(store: Store, name: str, id: str) -> HeldLock:
    held = try_lock(lock_path(store, name))
    if held is None:
        raise UserError(
            f'cache mount "{id}" is in use by a build', hints=("try again when it is done",)
        )
    return held


def _look(home: str) -> OwnerMode:
    """Return owner and mode that a mount has, or that one of nobody's asking gets."""
    try:
        status = os.stat(os.path.join(home, "fs"))
    except OSError:
        return _DEFAULT_LOOK
    return OwnerMode(status.st_uid, status.st_gid, status.st_mode & 0o7777)
