"""Content digests of what lies in snapshots: each is made once, and known to later builds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from pybuild.cache.records.database import RecordTooLarge
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.selection import ContentDigest, Selection, missing_source
from pybuild.model.snapshot import Snapshot

_CONTENT = "content"
_DIGEST = "pybuild.executor.files.jobs:digest"
# What is learnt is written by a thread, which would take the interpreter from what is started next.
_GATHER_S = 0.025

Ensure = Callable[[Sequence[str]], Awaitable[list[str]]]


class Call(Protocol):
    """Calls a worker function that wants an empty directory to mount on."""

    async def __call__(
        self, function: str, args: dict[str, Any], *, stay: bool
    ) -> dict[str, Any]: ...


class ContentDigests:
    """The content digests of one build's snapshots.

    Args:
        ensure: as `Layers.ensure`, without a listener.
    """

    def __init__(self, store: Store, call: Call, ensure: Ensure) -> None:
        self._store = store
        self._call = call
        self._ensure = ensure
        self._made: set[str] = set()
        self._known: set[Digest] = set()
        self._unwritten: dict[Digest, dict[str, Any]] = {}
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
        plain = asdict(selection)
        # The form that entries have belongs to the name, so that older ones are not taken for it.
        key = Digest.of_json({"deltas": list(snapshot.deltas), "selection": plain, "form": "look"})
        found = await self._stored(key, snapshot)
        if found is None:
            args = {"deltas": await self._ensure(snapshot.deltas), "selection": plain}
            found = await self._call(_DIGEST, args, stay=True)
            if "missing" in found:
                raise missing_source(_ref(snapshot), found["missing"])
            self._keep(key, found)
        entries = tuple((str(path), str(digest)) for path, digest in found["entries"])
        return ContentDigest(Digest(found["digest"]), entries)

    async def close(self) -> None:
        """Write what is not yet written."""
        self._write()
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _stored(self, key: Digest, snapshot: Snapshot) -> dict[str, Any] | None:
        if key in self._unwritten:
            return self._unwritten[key]
        if key not in self._known and not self._made.isdisjoint(snapshot.deltas[-1:]):
            return None
        known = await asyncio.to_thread(self._store.records.get, _CONTENT, key)
        return known if known is not None and isinstance(known.get("digest"), str) else None

    def _keep(self, key: Digest, found: dict[str, Any]) -> None:
        self._known.add(key)
        self._unwritten[key] = found
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

    def _written(self, batch: Mapping[Digest, dict[str, Any]]) -> None:
        self._writing = None
        for key in batch:
            del self._unwritten[key]
        self._write()

    def _put(self, batch: Mapping[Digest, dict[str, Any]]) -> None:
        records = self._store.records
        try:
            for key, found in batch.items():
                try:
                    records.put(_CONTENT, key, found)
                except RecordTooLarge:
                    records.put(_CONTENT, key, {"digest": found["digest"], "entries": []})
        except PybuildError as error:  # it is made again when somebody wants it
            self._store.warn(f"cannot store a content digest: {error.message}")


def _ref(snapshot: Snapshot) -> str:
    return snapshot.deltas[-1][:19] if snapshot.deltas else "scratch"
