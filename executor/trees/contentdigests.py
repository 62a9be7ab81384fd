"""Content digests of what lies in snapshots: each is made once, and known to later builds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.database import RecordTooLarge
from pybuild.cache.store import Store
from pybuild.executor.files.values import MissingPath, TreeDigest
from pybuild.executor.workers.job import JobService, WorkerModule, job
from pybuild.model.contents import EMPTY_TREE, ContentDigest, MissingSource
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.executor.files import jobs
else:
    jobs = WorkerModule("pybuild.executor.files.jobs")

_CONTENT = "content"
# What is learnt is written by a thread, which would take the interpreter from what is started next.
_GATHER_S = 0.025

Ensure = Callable[[Sequence[str]], Awaitable[list[str]]]


class ContentDigests:
    """The content digests of one build's snapshots.

    Args:
        mount_dir: gives an empty directory to mount on.
        ensure: as `Layers.ensure`, without a listener.
    """

    def __init__(
        self, store: Store, workers: JobService, mount_dir: Callable[[], str], ensure: Ensure
    ) -> None:
        self._store = store
        self._workers = workers
        self._mount_dir = mount_dir
        self._ensure = ensure
        self._made: set[str] = set()
        self._known: set[Digest] = set()
        self._unwritten: dict[Digest, TreeDigest] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def made(self, snapshot: Snapshot) -> None:
        """Note that the top of *snapshot* is new: nobody can know anything of it."""
        self._made.update(snapshot.deltas[-1:])

    async def digest(self, snapshot: Snapshot, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks from *snapshot*.

        Raises:
            UserError: a path without wildcard is not there [CP-4].
        """
        plain = selection._asdict()
        # The form that entries have belongs to the name, so that older ones are not taken for it.
        key = Digest.of_json({"deltas": list(snapshot.deltas), "selection": plain, "form": "look"})
        made = await self._stored(key, snapshot)
        if made is None:
            deltas = await self._ensure(snapshot.deltas)
            work = job(jobs.digest, self._mount_dir(), deltas, selection)
            answer = await self._workers.call(work, stay=True)
            if isinstance(answer, MissingPath):
                raise MissingSource(
                    _ref(snapshot), answer.path, answer.hints, above_pattern=answer.above_pattern
                )
            made = answer
            self._keep(key, made)
        return ContentDigest(Digest(made.digest), tuple(made.entries))

    async def close(self) -> None:
        """Write what is not yet written."""
        self._write()
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _stored(self, key: Digest, snapshot: Snapshot) -> TreeDigest | None:
        if key in self._unwritten:
            return self._unwritten[key]
        if key not in self._known and not self._made.isdisjoint(snapshot.deltas[-1:]):
            return None
        record = await asyncio.to_thread(self._store.records.get, _CONTENT, key)
        if record is None or not isinstance(record.get("digest"), str):
            return None
        entries = [(str(path), str(look)) for path, look in record.get("entries", ())]
        return TreeDigest(record["digest"], entries)

    def _keep(self, key: Digest, made: TreeDigest) -> None:
        self._known.add(key)
        self._unwritten[key] = made
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self._write)

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._unwritten and self._writing is None:
            batch = dict(self._unwritten)
            self._writing = asyncio.create_task(asyncio.to_thread(self._put, batch))
            self._writing.add_done_callback(lambda _: self._written(batch))

    def _written(self, batch: Mapping[Digest, TreeDigest]) -> None:
        self._writing = None
        for key in batch:
            del self._unwritten[key]
        self._write()

    def _put(self, batch: Mapping[Digest, TreeDigest]) -> None:
        records = self._store.records
        try:
            for key, made in batch.items():
                try:
                    records.put(_CONTENT, key, made._asdict())
                except RecordTooLarge:
                    records.put(_CONTENT, key, made._replace(entries=())._asdict())
        except PybuildError as error:  # it is made again when somebody wants it
            self._store.warn(f"cannot store a content digest: {error.message}")


def _ref(snapshot: Snapshot) -> str:
    return snapshot.deltas[-1][:19] if snapshot.deltas else EMPTY_TREE
