"""Content digests of snapshots: what workers and the store are asked, and what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.store import Store
from pybuild.executor.files.values import MissingPath, TreeDigest
from pybuild.executor.trees.contentdigests import ContentDigests
from pybuild.executor.workers.job import Answer, Job
from pybuild.model.border import packed, unpacked
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Snapshot
from tests.clocks import FakeClock

FILE = Selection(path="/file")
TREE = Snapshot(("a" * 32, "b" * 32))


class Worker:
    """Digests as a worker does, and counts."""

    def __init__(self, *, entries: int = 1) -> None:
        self.asked: list[str] = []
        self._entries = entries

    async def call(self, work: Job[Answer], /, **options: Any) -> Answer:
        mount_dir, deltas, selection = map(unpacked, work.args)
        assert (work.function, mount_dir) == ("pybuild.executor.files.jobs:digest", "/mounts")
        self.asked.append(selection.path)
        if selection.path == "/missing":
            return work.answer(packed(MissingPath("/missing")))
        digest = Digest.of("\n".join(deltas).encode())
        entries = [(f"file{number}", digest) for number in range(self._entries)]
        return work.answer(packed(TreeDigest(digest, entries)))


async def ensure(deltas: Sequence[str]) -> list[str]:
    return list(deltas)


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Iterator[Store]:
    with Store.open(tmp_path / "store", FakeClock(), warn=warnings.append) as opened:
        yield opened


def ask(store: Store, worker: Worker, *selections: Selection, made: bool = False) -> list[Any]:
    """Digest one after the other, in a build of its own."""

    async def main() -> list[Any]:
        digests = ContentDigests(store, worker, lambda: "/mounts", ensure)
        if made:
            digests.made(TREE)
        found = [await digests.digest(TREE, selection) for selection in selections]
        await digests.close()
        return found

    return asyncio.run(main())


@pytest.mark.parametrize("made", [False, True])
def test_a_worker_is_asked_once_and_later_builds_know(store: Store, made: bool) -> None:
    worker = Worker()
    first = ask(store, worker, FILE, FILE, made=made)
    assert first[0] == first[1]
    assert first[0].entries == (("file0", first[0].digest),)
    assert ask(store, worker, FILE) == first[:1]
    assert worker.asked == ["/file"]


def test_the_store_is_not_asked_about_what_this_build_has_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    get = store.records.get

    def counted(kind: str, key: str) -> dict[str, Any] | None:
        reads.append(kind)
        return get(kind, key)

    monkeypatch.setattr(store.records, "get", counted)
    ask(store, Worker(), FILE, Selection(path="/other"), made=True)
    assert reads == []
    ask(store, Worker(), FILE)
    assert reads == ["content"]


def test_of_more_entries_than_a_record_holds_the_digest_is_kept(store: Store) -> None:
    worker = Worker(entries=5000)
    (first,) = ask(store, worker, FILE)
    assert len(first.entries) == 5000
    (again,) = ask(store, worker, FILE)
    assert (again.digest, again.entries) == (first.digest, ())
    assert worker.asked == ["/file"]


def test_what_is_missing_is_an_error_and_not_kept(store: Store) -> None:
    worker = Worker()
    for _ in range(2):
        with pytest.raises(UserError, match=r'"/missing" is not there'):
            ask(store, worker, Selection(path="/missing"))
    assert worker.asked == ["/missing", "/missing"]


def test_a_digest_that_cannot_be_stored_is_a_warning(
    store: Store, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(kind: str, key: str, value: object) -> None:
        raise EnvironmentFault("no space left on device")

    monkeypatch.setattr(store.records, "put", full)
    assert ask(store, Worker(), FILE)[0].entries
    assert warnings == ["cannot store a content digest: no space left on device"]
