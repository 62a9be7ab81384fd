"""A store as builds leave it, and what holds of every store."""

from __future__ import annotations

import os
from pathlib import Path

from pybuild.cache.records.results import Results
from pybuild.cache.space.prune import (
    Pruned,
)
from pybuild.cache.space.usage import UsageRecord
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.snapshot import Record, Snapshot
from tests.clocks import FakeClock


class Builder:
    """Fills a store as builds do, and ends, so that nothing is leased any more."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        self.root = root
        self.clock = clock

    def layer(self, *below: str, size: int = 4096, name: str = "") -> str:
        with Store.open(self.root, self.clock) as store:
            active = store.deltas.begin()
            Path(active.fs, "file").write_bytes(os.urandom(size))
            id = store.deltas.commit(active)
            key = Digest.of(id.encode())
            record = Record(
                key=key, snapshot=Snapshot((*below, id)), created=self.clock.time, name=name
            )
            Results(store).save(record)
            Results(store).save_alias(Digest.of(key.encode()), key)
            return id

    def use(self, id: str) -> None:
        with Store.open(self.root, self.clock) as store:
            assert Results(store).load(Digest.of(id.encode())) is not None

    def blob(self, data: bytes) -> Digest:
        with Store.open(self.root, self.clock) as store:
            return store.blobs.put(data)


def assert_sound(store: Store) -> None:
    """Every record points at something that exists, and so does every image."""
    for key, value in store.records.items("result"):
        for id in value["deltas"]:
            assert Results(store).is_present(id), (key, id)
    for _, descriptor in store.images.list():
        assert store.blobs.verify(descriptor.digest)


def ids(pruned: Pruned | list[UsageRecord]) -> list[str]:
    records = pruned.records if isinstance(pruned, Pruned) else pruned
    return [record.id for record in records]
