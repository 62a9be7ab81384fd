"""Cache mounts: directories kept between builds, ``<root>/mounts/<name>/fs`` [MNT-14..17]."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from pybuild.cache.content.cachemounts import begin, note_use, put
from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.files.encode import encode_copy
from pybuild.executor.files.values import DeltaStack, OwnerMode
from pybuild.executor.trees.flocks import HeldLock, locked, locked_all, try_lock
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError
from pybuild.model.ops import CacheSharing, Copy, Mount
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.executor.files import apply
else:
    apply = WorkerModule("pybuild.executor.files.apply")

SayOrigin = Callable[[str, str, bool], None]
"""Takes a mount's id, the origin of its content, and whether that has come from elsewhere."""
_KEPT = "kept on this machine"
_EMPTY = "new and empty"
_SEEDED = "new, with the files that its from= names"


@dataclass(frozen=True, slots=True)
class Seed:
    """The first content of a new cache: a part of a snapshot, with a way to its directories."""

    snapshot: Snapshot
    paths: Callable[[], Awaitable[list[str]]]


class MountArrival(Protocol):
    """The content of a cache mount, from a build elsewhere."""

    @property
    def origin(self) -> str:
        """The place and the time, for people."""
        ...

    def unpacking(self, target: str, look: OwnerMode) -> Job[None]:
        """Return the job that unpacks it into *target*."""
        ...


class MountCarrier(Protocol):
    """Carries cache mounts from builds elsewhere, and to them."""

    def arrival(self, name: str) -> AbstractAsyncContextManager[MountArrival | None]:
        """Have the content of a mount that is not here yet; None if nobody has it.

        Raises:
            PybuildError: it cannot be had.
        """
        ...

    def note_use(self, name: str, id: str) -> None:
        """Take a mount along when the build has succeeded."""
        ...


class CacheMounts:
    """Hands out the directories of cache mounts.

    Attributes:
        carrier: carries those without a seed, where the build has caches elsewhere.
    """

    def __init__(self, store: Store, workers: Workers, lease: Lease) -> None:
        self._store = store
        self._workers = workers
        self._lease = lease
        self._used: set[str] = set()
        self._renewed: set[str] = set()
        self.carrier: MountCarrier | None = None

    @asynccontextmanager
    async def hold(
        self,
        mounts: Sequence[Mount],
        seeds: Sequence[Seed | None],
        say: SayOrigin,
        warn: Callable[[str], None],
        *,
        renew: bool = False,
    ) -> AsyncGenerator[list[str]]:
        """Hold the caches of *mounts* by their sharing modes; give their directories, in order.

        Args:
            say: takes the origin of each mount's content.
            warn: takes a line about content that should have come, and did not.
            renew: begin them anew, unless this build has used them or another one does [KEY-11].
        """
        names = [_name(mount, seed) for mount, seed in zip(mounts, seeds, strict=True)]
        new = {name for name in names if name not in self._used}
        self._used |= new
        if renew:
            self._renewed |= new
            await asyncio.to_thread(self._drop, new)
        shared: dict[str, bool] = {}
        private: dict[str, HeldLock] = {}
        # A cache that is moved into a step's root is nobody else's meanwhile.
        can_share = await self._workers.isolation() != "chroot"
        try:
            for number, mount in enumerate(mounts):
                if mount.sharing is CacheSharing.PRIVATE:
                    names[number] = self._private(names[number], private)
                else:
                    path = self._lock(names[number])
                    # The same cache twice in one step: the stricter wish counts.
                    may_share = can_share and mount.sharing is CacheSharing.SHARED
                    shared[path] = may_share and shared.get(path, True)
            async with locked_all({p: s for p, s in shared.items() if p not in private}):
                paths = [
                    await self._directory(name, mount, seed, say, warn)
                    for name, mount, seed in zip(names, mounts, seeds, strict=True)
                ]
                for name, mount, seed in zip(names, mounts, seeds, strict=True):
                    note_use(self._store, name)
                    if self.carrier is not None and seed is None:
                        self.carrier.note_use(name, mount.cache_id or mount.target)
                budget = self._store.budget
                folder = os.path.basename(self._store.mounts_dir)
                changing = [os.path.join(folder, name) for name in names]
                with nullcontext() if budget is None else budget.mounting(changing):
                    yield paths
        finally:
            for held in private.values():
                held.release()

    def _drop(self, names: Iterable[str]) -> None:
        """Delete caches that nobody holds, and the further directories of private ones."""
        for name in names:
            homes = [os.path.join(self._store.mounts_dir, name)]
            while os.path.isdir(homes[-1]):
                homes.append(os.path.join(self._store.mounts_dir, f"{name}-{len(homes)}"))
            for home in homes[:-1]:
                lock = try_lock(self._lock(os.path.basename(home)))
                if lock is not None:
                    try:
                        self._store.discard(home)
                    finally:
                        lock.release()

    def _lock(self, name: str) -> str:
        return lock_path(self._store, name)

    def _private(self, name: str, held: dict[str, HeldLock]) -> str:
        """Take the first directory of this cache that nobody uses."""
        number = 0
        while True:
            candidate = f"{name}-{number}" if number else name
            path = self._lock(candidate)
            lock = None if path in held else try_lock(path)
            if lock is not None:
                held[path] = lock
                return candidate
            number += 1

    async def _directory(
        self,
        name: str,
        mount: Mount,
        seed: Seed | None,
        say: SayOrigin,
        warn: Callable[[str], None],
    ) -> str:
        await asyncio.to_thread(self._lease.add, "mount", name)
        home = os.path.join(self._store.mounts_dir, name)
        path = os.path.join(home, "fs")
        called = mount.cache_id or mount.target
        if os.path.isdir(path):
            say(called, _KEPT, False)
            return path
        async with locked(self._lock(name) + "-new"):
            if os.path.isdir(path):
                say(called, _KEPT, False)
            elif not await self._arrived(name, mount, seed, say, warn):
                await self._create(home, mount, seed)
                say(called, _EMPTY if seed is None else _SEEDED, False)
        return path

    async def _arrived(
        self,
        name: str,
        mount: Mount,
        seed: Seed | None,
        say: SayOrigin,
        warn: Callable[[str], None],
    ) -> bool:
        """Make the cache from what a build elsewhere has left; return whether there was such a thing."""
        if self.carrier is None or seed is not None or name in self._renewed:
            return False
        called = mount.cache_id or mount.target
        try:
            async with self.carrier.arrival(name) as arrival:
                if arrival is None:
                    return False
                look = OwnerMode(mount.uid, mount.gid, 0o755 if mount.mode is None else mount.mode)
                await self._unpack(name, called, lambda target: arrival.unpacking(target, look))
                say(called, arrival.origin, True)
                return True
        except PybuildError as error:
            warn(f'cache mount "{called}" begins empty: {error.message}')
            return False

    async def _unpack(self, name: str, id: str, work: Callable[[str], Job[None]]) -> None:
        made = self._store.scratch("cache")
        facts = {"id": id, "created": self._store.clock.now(), "seeded": False}
        try:
            await asyncio.to_thread(begin, self._store, made, facts)
            target = os.path.join(made, "fs")
            await self._workers.call(work(target), writes=target)
            put(self._store, made, name)
        finally:
            if os.path.lexists(made):
                self._store.discard(made)

    async def _create(self, home: str, mount: Mount, seed: Seed | None) -> None:
        """Make the cache beside its place and rename it, so that a half-made one is never used."""
        made = self._store.scratch("cache")
        covered = self._store.scratch("mounts")
        facts = {
            "id": mount.cache_id or mount.target,
            "created": self._store.clock.now(),
            "seeded": seed is not None,
        }
        await asyncio.to_thread(os.mkdir, covered, 0o700)
        try:
            await asyncio.to_thread(begin, self._store, made, facts)
            is_whole = mount.selector in ("", "/")
            mode = 0o755 if mount.mode is None else mount.mode
            copy = Copy(input=1, source=mount.selector or "/", dest="/")
            upper = os.path.join(made, "fs")
            work = job(
                apply.apply,
                covered,
                upper,
                inputs={} if seed is None else {1: DeltaStack(await seed.paths())},
                actions=[] if seed is None else [encode_copy(copy, is_scratch=False)],
                # Owner and mode are those of a new cache; a part of a seed has its own [MNT-15].
                look=OwnerMode(mount.uid, mount.gid, mode) if is_whole else None,
            )
            await self._workers.call(work, writes=upper)
            put(self._store, made, os.path.basename(home))
        finally:
            os.rmdir(covered)
            if os.path.lexists(made):
                self._store.discard(made)


def _name(mount: Mount, seed: Seed | None) -> str:
    """Return the directory's name: the id, and the seed's identity when there is one [MNT-14]."""
    if seed is None:
        return name_of(mount.cache_id or mount.target)
    return name_of(mount.cache_id or mount.target, list(seed.snapshot.deltas), mount.selector)


def lock_path(store: Store, name: str) -> str:
    """Return the file that whoever uses the directory *name* holds a lock on."""
    return os.path.join(store.root, "locks", "mount-" + name)


def name_of(*identity: Any) -> str:
    """Return the name of the directory with this *identity*: an id, and what seeds it."""
    text = json.dumps(list(identity), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]
