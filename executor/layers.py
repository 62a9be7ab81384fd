"""Pulled layers: unpacked when a step needs their files, once, several at a time [ARC-7].

A layer's delta is named by its diffID, so images share it. Some layers leave out what they build
on (parent directories, targets of hard links); such a delta depends on what it was unpacked over,
and lies on disk under the name of the whole chain. Snapshots name the layer all the same; `ensure`
tells where the files are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pybuild.cache.content.leases import Lease
from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cache.store import Store
from pybuild.executor.fetch import Fetcher, LayerGone
from pybuild.executor.heldlayers import HeldLayers, candidates_of
from pybuild.executor.trees.flocks import locked
from pybuild.executor.trees.storeform import settle
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.image.layer.orders import LowersMissing, UnpackedLayer, UnpackOrder
from pybuild.model.errors import BlobMissing, EnvironmentFault, InternalError, PybuildError
from pybuild.model.events import Emit, pulling
from pybuild.model.layerfacts import LayerFacts

if TYPE_CHECKING:
    from pybuild.image.layer import apply
else:
    apply = WorkerModule("pybuild.image.layer.apply")

_AT_ONCE = 4  # layers; each takes a process or two, and memory
_APART_BYTES = 1 << 20  # below that a process costs more than it wins


class Layers:
    """Makes the deltas of snapshots present on disk."""

    def __init__(self, store: Store, workers: Workers, fetcher: Fetcher, lease: Lease) -> None:
        self._store = store
        self._workers = workers
        self._fetcher = fetcher
        self._lease = lease
        # Nobody waits for another layer while it has a turn, so they cannot wait for each other.
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._busy = 0
        self._settled = False  # whether the store's deltas are of our form
        self._held = HeldLayers(store, lease)
        self.of_image = self._held.of_image

    async def ensure(self, deltas: Sequence[str], emit: Emit) -> list[str]:
        """Return the directories that make up *deltas*, base first, each whole and leased.

        Raises:
            EnvironmentFault: a layer can be neither found nor fetched, or is damaged; or the
                store was written with other privileges.
        """
        if not self._settled:
            userxattr = await self._workers.isolation() != "root"
            await asyncio.to_thread(settle, self._store.root, userxattr=userxattr)
            self._settled = True
        candidates, held = candidates_of(deltas), self._held
        if held.is_leased(candidates):
            here = held.ensure(candidates)
        else:
            here = await asyncio.to_thread(held.ensure, candidates)
        if here is not None:
            return here
        pending: list[asyncio.Future[list[str]]] = []
        try:
            with pulling():
                async with asyncio.TaskGroup() as group:
                    for delta, names in zip(deltas, candidates, strict=True):
                        if names in held.whole:
                            pending.append(_done(held.whole[names]))
                            continue
                        below = tuple(pending)
                        pending.append(group.create_task(self._present(delta, names, below, emit)))
        except BaseExceptionGroup as several:
            raise _first(several) from None
        paths = [one.result() for one in pending]
        held.whole.update(zip(candidates, paths, strict=True))
        return [path for one in paths for path in one]

    async def _present(
        self,
        delta: str,
        names: tuple[str, ...],
        below: tuple[asyncio.Future[list[str]], ...],
        emit: Emit,
    ) -> list[str]:
        held = self._held
        directories = held.look_for(names)
        if directories is not None:
            return directories
        facts = layer_facts(self._store.records, delta)
        if facts is None:
            raise LayerGone(delta, f"snapshot {delta} is not in the store")
        lock = os.path.join(self._store.root, "locks", "unpack-" + names[-1])
        async with locked(lock):
            directories = held.look_for(names)
            if directories is not None:
                return directories
            try:
                return await self._unpack(delta, names, facts, below, emit)
            except LayerGone:
                raise
            except PybuildError as error:
                if await asyncio.to_thread(self._is_damaged, facts):  # then it is fetched again
                    return await self._unpack(delta, names, facts, below, emit)
                if facts.cache:  # what it holds is not what it should be
                    raise LayerGone(delta, error.message) from error
                raise

    def _is_damaged(self, facts: LayerFacts) -> bool:
        """Return whether the store has other bytes than a layer's digest says; they are removed."""
        if facts.descriptor is None:
            return False
        try:
            return not self._store.blobs.verify(facts.descriptor.digest)
        except BlobMissing:
            return False

    async def _unpack(
        self,
        delta: str,
        names: tuple[str, ...],
        facts: LayerFacts,
        below: tuple[asyncio.Future[list[str]], ...],
        emit: Emit,
    ) -> list[str]:
        if facts.descriptor is None and facts.is_lent:
            facts = await self._fetcher.described(delta)
        descriptor = facts.descriptor
        if descriptor is None:
            raise LayerGone(delta, f"snapshot {delta} is not in the store")
        store = self._store
        await asyncio.to_thread(self._lease.add, "blob", descriptor.digest)
        rung = await self._workers.isolation()
        active = await asyncio.to_thread(store.deltas.begin)
        order = UnpackOrder(
            target=active.fs,
            blob=store.blobs.path(descriptor.digest),
            userxattr=rung != "root",
            record_owners=rung == "userns-single",
            diff_id=facts.diff_id,
            size=descriptor.size,
            # A bomb must not fill the disk: the store keeps a twentieth of what is free.
            max_bytes=_free_bytes(store.root) * 19 // 20,
            apart=descriptor.size >= _APART_BYTES,
        )
        try:
            answer: UnpackedLayer | LowersMissing | None = None
            if store.blobs.holds(descriptor):
                order = order._replace(digest=descriptor.digest)
            else:
                answer = await self._fetched(delta, order, emit)
                if answer is None:
                    store.deltas.abort(active)
                    active = await asyncio.to_thread(store.deltas.begin)
                    order = order._replace(target=active.fs)
            if answer is None:
                answer = await self._applied(order)
            name = names[0]
            if isinstance(answer, LowersMissing):
                if len(names) == 1:
                    raise EnvironmentFault(
                        f"layer {delta} refers to files of the layers below it in its own image, "
                        f"which are not below it here: {answer.path}"
                    )
                lowers = [path for task in below for path in await task]
                name = names[-1]
                answer = await self._applied(order._replace(lowers=lowers))
                if isinstance(answer, LowersMissing):
                    raise InternalError(f"layer {delta} asks for lowers that it was given")
                # What is unpacked is held and described like the layer itself.
                await asyncio.to_thread(keep_layer, store.records, name, facts)
            meta = {"size": answer.size}
        except BaseException:
            store.deltas.abort(active)
            raise
        await asyncio.to_thread(store.deltas.commit, active, name, meta, self._lease)
        return [store.deltas.path(name)]

    async def _fetched(
        self, delta: str, order: UnpackOrder, emit: Emit
    ) -> UnpackedLayer | LowersMissing | None:
        """Bring the blob, and return what unpacking it meanwhile gave, if that went well."""
        from pybuild.executor.streamedlayer import StreamedLayer  # most builds have their base

        async with self._turn() as has_processors:
            work = job(apply.apply_job, order._replace(apart=order.apart and has_processors))
            streamed = StreamedLayer(
                lambda fds: self._workers.call(work, fds=fds, writes=order.target)
            )
            try:
                await self._fetcher.fetch(delta, emit, follower=streamed, is_compared=True)
                return await streamed.outcome()
            finally:
                await streamed.stop()

    async def _applied(self, order: UnpackOrder) -> UnpackedLayer | LowersMissing:
        async with self._turn() as has_processors:
            work = job(apply.apply_job, order._replace(apart=order.apart and has_processors))
            return await self._workers.call(work, writes=order.target)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[bool]:
        """Wait for few others; tell whether there are processors for two processes then."""
        async with self._turns:
            self._busy += 1
            try:
                processors = len(os.sched_getaffinity(0))
                yield self._busy <= processors > 1
            finally:
                self._busy -= 1


def _done(paths: list[str]) -> asyncio.Future[list[str]]:
    future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    future.set_result(paths)
    return future


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one of several failures: what people can mend rather than what followed from it."""
    mendable = several.subgroup(PybuildError)
    error: BaseException = mendable or several
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


def _free_bytes(path: str) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize
