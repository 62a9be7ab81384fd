"""Work is done again where a blob that it needs turns out to be damaged, and only then [STO]."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.engine.abandonable import abandonable
from pybuild.engine.repair import mended
from pybuild.model.digest import Digest
from pybuild.model.errors import DamagedBlob, UserError
from pybuild.model.events import BuildWarning, Event
from tests.clocks import FakeClock


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "s", FakeClock()) as opened:
        yield opened


class Work:
    """Work that fails with *errors*, one after the other, and then is done."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries = 0
        self.events: list[Event] = []

    async def __call__(self) -> str:
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def mended(self, store: Store, *, repeatable: bool = True) -> str:
        work = mended(self, store.blobs, self.events.append, lambda: repeatable)
        return asyncio.run(work)


def damaged(data: bytes = b"absent") -> DamagedBlob:
    return DamagedBlob("it is damaged", digest=Digest.of(data))


def test_damage_is_mended_by_doing_it_again_and_somebody_hears_of_it(store: Store) -> None:
    work = Work(damaged(), ExceptionGroup("several", [damaged(b"other")]))
    assert work.mended(store) == "done"
    assert work.tries == 3
    text = "it is damaged: it was removed from the store, and is made or fetched again"
    assert work.events == [BuildWarning(message=text)] * 2


def test_what_is_on_the_disk_and_wrong_is_removed(store: Store) -> None:
    digest = store.blobs.put(b"sound")
    Path(store.blobs.path(digest)).chmod(0o644)
    Path(store.blobs.path(digest)).write_bytes(b"wrong")
    assert Work(damaged(b"sound")).mended(store) == "done"
    assert not store.blobs.has(digest)


def test_other_errors_pass(store: Store) -> None:
    work = Work(UserError("x"))
    with pytest.raises(UserError):
        work.mended(store)
    assert (work.tries, work.events) == (1, [])


def test_where_the_blob_is_sound_nothing_is_gained_by_trying(store: Store) -> None:
    store.blobs.put(b"sound")
    work = Work(damaged(b"sound"))
    with pytest.raises(DamagedBlob):
        work.mended(store)
    assert (work.tries, work.events) == (1, [])


def test_work_that_cannot_be_repeated_fails_with_a_way_out(store: Store) -> None:
    work = Work(damaged())
    with pytest.raises(DamagedBlob) as caught:
        work.mended(store, repeatable=False)
    assert caught.value.hints == ("build again: what is damaged was removed from the store",)
    assert (work.tries, work.events) == (1, [])


def test_it_is_not_tried_for_ever(store: Store) -> None:
    work = Work(*[damaged()] * 150)
    with pytest.raises(DamagedBlob):
        work.mended(store)
    assert (work.tries, len(work.events)) == (100, 99)
    assert Work(*[damaged()] * 99).mended(store) == "done"


def test_what_a_thread_returns_or_raises_reaches_who_waits() -> None:
    def divide(one: int, *, by: int) -> int:
        return one // by

    assert asyncio.run(abandonable(divide, 7, by=2)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(abandonable(divide, 7, by=0))


def test_a_thread_that_never_ends_is_left_behind() -> None:
    from threading import Event as Flag

    begun, over = Flag(), Flag()

    def wait() -> None:
        begun.set()
        over.wait()

    async def work() -> None:
        task = asyncio.create_task(abandonable(wait))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    over.set()
