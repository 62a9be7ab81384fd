"""The store stays below its ceiling, whoever writes [GC-2, GC-5]."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pybuild.cache.disk.extent import extent, measure
from pybuild.cache.records.results import Results
from pybuild.cache.space import ceiling as room_module
from pybuild.cache.space.advance import Advance
from pybuild.cache.space.budget import Budget
from pybuild.cache.space.ceiling import Ceiling, keep_below
from pybuild.cache.space.evictor import Evictor
from pybuild.cache.space.holdings import Holdings, Stated
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.snapshot import Record, Snapshot
from tests.cache import children
from tests.cache.builders import assert_sound
from tests.clocks import FakeClock

MB = 1_000_000
CEILING = 40 * MB


def make(store: Store, size: int, seconds: float = 1.0) -> str:
    """Commit a delta of *size* bytes as a step's result would be."""
    active = store.deltas.begin()
    Path(active.fs, "file").write_bytes(bytes(size))
    id = store.deltas.commit(active)
    key = Digest.of(id.encode())
    Results(store).save(Record(key=key, snapshot=Snapshot((id,)), seconds=seconds))
    return id


def refuses(budget: Budget, size: int, saying: str) -> bool:
    try:
        with budget.reserved(size):
            return False
    except EnvironmentFault as fault:
        return saying in fault.message


def filled(root: Path, clock: FakeClock, *seconds: float) -> list[str]:
    """Leave deltas of 10 MB in a store, that took so long each."""
    made: list[str] = []
    for each in seconds:
        with Store.open(root, clock) as store:
            made.append(make(store, 10 * MB, each))
            clock.advance(60)
    return made


def test_room_is_made_before_something_is_begun_by_what_is_worth_least(
    root: Path, clock: FakeClock
) -> None:
    dear, cheap, middling = filled(root, clock, 500, 2, 100)
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        make(store, 8 * MB)
        store.deltas.begin()
        assert [store.deltas.has(id) for id in (dear, cheap, middling)] == [True, False, True]
        assert_sound(store)
        assert measure(str(root)) <= CEILING


def test_what_is_in_use_stays_and_the_fault_says_what_holds_the_space(
    root: Path, clock: FakeClock
) -> None:
    made = filled(root, clock, 1, 1, 1)
    with Store.open(root, clock) as other, Store.open(root, clock) as store:
        for id in made:
            other.lease.add("delta", id)
        keep_below(store, 20 * MB)
        with pytest.raises(EnvironmentFault) as caught:
            store.deltas.begin()
        assert caught.value.message.startswith(
            f"the store {root} would take more than its ceiling of 20.00MB (--cache-max), and "
            "nothing can be freed: in use by running builds 30.0"
        )
        assert "pybuild why-kept ID says what holds it" in caught.value.hints[1]
        assert all(store.deltas.has(id) for id in made)


def test_a_known_size_is_kept_free_until_it_is_written(root: Path, clock: FakeClock) -> None:
    (old,) = filled(root, clock, 1)
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        assert store.budget is not None
        with store.budget.reserved(33 * MB):
            assert not store.deltas.has(old)
            assert refuses(store.budget, 5 * MB, "ceiling of 40.00MB")
        store.deltas.begin()


def test_what_was_written_is_counted_before_it_is_kept_whatever_others_free(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by nobody meanwhile: a build of a busy machine is done before its watcher runs again."""
    old, older = filled(root, clock, 5, 1)
    with Store.open(root, clock) as store:
        active = store.deltas.begin()
        keep_below(store, CEILING)
        assert store.budget is not None
        disk = os.statvfs(root)

        def same(_path: str) -> os.statvfs_result:
            return disk

        monkeypatch.setattr(os, "statvfs", same)
        Path(active.fs, "file").write_bytes(bytes(22 * MB))
        store.budget.settle()
        assert [store.deltas.has(id) for id in (old, older)] == [True, False]
        store.deltas.commit(active)
    assert measure(str(root)) < CEILING


def write_seen(store: Store, path: str, size: int) -> None:
    """Write *size* bytes more, and wait until the ceiling has seen them: its pace is not our matter."""
    with open(path, "ab") as file:
        file.write(bytes(size))
    ours = list(Path(store.tmp.path).glob(store.tmp.owner() + ".*"))
    written = (
        sum(measure(str(path)) for path in ours) - 20_000
    )  # what states it takes blocks itself
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stated = Stated.decode(Path(store.tmp.path, store.tmp.owner() + ".space").read_bytes())
        busy = any(thread.name == "store-evictor" for thread in threading.enumerate())
        if stated is not None and stated.used >= written and not busy:
            return
        time.sleep(0.002)
    raise AssertionError("nobody looked for 30 s")


def test_an_advance_that_shrinks_after_a_pause_refuses_nothing(
    root: Path, clock: FakeClock
) -> None:
    """A server that had written fast and then nothing failed its next build on an empty store."""
    with Store.open(root, clock) as store:
        advance = Advance(CEILING)
        advance.size = CEILING // 8
        budget = Ceiling(store, CEILING, advance)
        budget.prepare()
        budget.close()


def test_the_ceiling_is_looked_at_when_space_gets_short(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        assert store.budget is not None
        active = store.deltas.begin()
        told: list[EnvironmentFault] = []
        is_told = threading.Event()

        def end(fault: EnvironmentFault) -> None:
            told.append(fault)
            is_told.set()

        with store.budget.writing(active.fs, end):
            with open(f"{active.fs}/file", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, CEILING + MB)
            assert is_told.wait(60)
        assert "ceiling of 40.00MB" in told[0].message


@pytest.mark.slow
def test_who_writes_past_the_ceiling_is_told_to_end(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        budget = store.budget
        assert budget is not None
        small, large = store.deltas.begin(), store.deltas.begin()
        told: list[EnvironmentFault] = []
        quiet: list[EnvironmentFault] = []
        with budget.writing(small.fs, quiet.append), budget.writing(large.fs, told.append):
            write_seen(store, f"{small.fs}/file", 5 * MB)
            for _ in range(40):
                if told:
                    break
                write_seen(store, f"{large.fs}/file", MB)
        assert "ceiling of 40.00MB" in told[0].message
        assert not quiet
        assert CEILING * 0.9 < measure(str(root)) < CEILING + 3 * MB


@pytest.mark.slow
def test_who_writes_fast_is_told_before_the_ceiling(root: Path, clock: FakeClock) -> None:
    """Until it has ended it writes on, and that is to be below the ceiling, too."""

    class Fast(Advance):
        def adapt(self, now: float, taken: int) -> None:
            self.size = CEILING // 8

    with Store.open(root, clock) as store:
        store.budget = store.deltas.budget = Ceiling(store, CEILING, Fast(CEILING))
        assert store.budget is not None
        active = store.deltas.begin()
        told: list[EnvironmentFault] = []
        with store.budget.writing(active.fs, told.append):
            write_seen(store, f"{active.fs}/file", 34 * MB)  # and the ballast
            while not told and measure(str(root)) < CEILING:
                write_seen(store, f"{active.fs}/file", MB // 20)
        assert "ceiling of 40.00MB" in told[0].message
        assert CEILING * 0.97 < measure(str(root)) < CEILING


def test_freeing_all_that_can_go_and_too_little_is_in_vain(root: Path, clock: FakeClock) -> None:
    """Else whoever writes past the ceiling goes on as long as others leave something to free."""
    filled(root, clock, 1, 1)
    with Store.open(root, clock) as store:
        evictor = Evictor(store, 0)
        assert evictor.free(lambda: MB, 0)
        assert not evictor.is_vain()
        assert evictor.free(lambda: 100 * MB, 0)
        assert evictor.is_vain()
        evictor.insist()
        assert not evictor.is_vain()


@pytest.mark.slow
def test_room_is_made_while_somebody_writes(root: Path, clock: FakeClock) -> None:
    old = filled(root, clock, 1, 1, 1)
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        budget = store.budget
        assert budget is not None
        active = store.deltas.begin()
        told: list[EnvironmentFault] = []
        highest = 0
        with budget.writing(active.fs, told.append):
            for _ in range(40):
                write_seen(store, f"{active.fs}/file", MB // 2)
                highest = max(highest, measure(str(root)))
        assert not told
        assert highest < CEILING
        assert [store.deltas.has(id) for id in old].count(True) == 1


def test_a_store_is_closed_after_the_freeing_that_began_meanwhile(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evictor goes through the store's folders: closed ones are other files, or none."""
    filled(root, clock, 1, 1, 1)
    looks, closing, awaited = threading.Event(), threading.Event(), threading.Event()
    state, join = Holdings.state, threading.Thread.join
    freed: list[bool] = []

    def look(holdings: Holdings, own: Stated) -> None:
        if threading.current_thread().name == "store-room":
            looks.set()
            assert closing.wait(60)
        state(holdings, own)

    def free(_evictor: Evictor, _over: object, _margin: int) -> bool:
        freed.append(awaited.wait(60))
        return False

    def joined(thread: threading.Thread, timeout: float | None = None) -> None:
        {"store-room": closing, "store-evictor": awaited}.get(thread.name, looks).set()
        join(thread, timeout)

    monkeypatch.setattr(Holdings, "state", look)
    monkeypatch.setattr(Evictor, "free", free)
    monkeypatch.setattr(threading.Thread, "join", joined)
    store = Store.open(root, clock)
    active = store.deltas.begin()
    keep_below(store, 20 * MB)
    assert store.budget is not None
    with store.budget.writing(active.fs, lambda _: None):
        assert looks.wait(60)
    store.close()
    assert freed == [True]


@pytest.mark.slow
def test_growth_of_cache_mounts_counts(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        home = Path(store.mounts_dir, "m" * 40)
        (home / "fs").mkdir(parents=True)
        store.lease.add("mount", home.name)
        keep_below(store, CEILING)
        assert store.budget is not None
        with store.budget.mounting([f"mounts/{home.name}"]):
            (home / "fs" / "x").write_bytes(bytes(39 * MB))
            assert refuses(store.budget, 5 * MB, "ceiling of 40.00MB")


WRITER = """
from pybuild.cache.space.ceiling import keep_below
keep_below(store, int(sys.argv[2]))
a = store.deltas.begin()
open(a.fs + '/f', 'wb').write(bytes(int(sys.argv[3])))
store.deltas.begin()
while int(open(f'{store.tmp.path}/{store.tmp.owner()}.space').read().split()[0]) < int(sys.argv[3]):
    time.sleep(0.01)
print('ready', flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_processes_count_what_the_others_write(root: Path, clock: FakeClock) -> None:
    child = children.start(root, WRITER, str(CEILING), str(15 * MB))
    try:
        assert children.line(child) == "ready"
        with Store.open(root, clock) as store:
            keep_below(store, CEILING)
            assert store.budget is not None
            assert refuses(store.budget, 25 * MB, "being written 15")
            children.kill(child)
            with store.budget.reserved(25 * MB):  # what the dead left is deleted
                pass
            assert measure(str(root)) < 6 * MB
    finally:
        children.kill(child)


@pytest.mark.slow
def test_nobody_writes_on_while_a_larger_one_ends(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting what that had takes its time; a hundredth of the ceiling is enough to yield."""
    monkeypatch.setattr(room_module, "YIELD_S", 3600.0)
    child = children.start(root, WRITER, str(CEILING), str(24 * MB))
    try:
        assert children.line(child) == "ready"
        with Store.open(root, clock) as store:
            keep_below(store, CEILING)
            assert store.budget is not None
            active = store.deltas.begin()
            told: list[EnvironmentFault] = []
            with store.budget.writing(active.fs, told.append):
                for _ in range(35):
                    if told:
                        break
                    write_seen(store, f"{active.fs}/file", MB // 2)
            assert told
            assert measure(str(root)) < CEILING + 2 * MB
    finally:
        children.kill(child)


def test_counts_agree_with_the_disk(root: Path, clock: FakeClock) -> None:
    filled(root, clock, 1, 1)
    with Store.open(root, clock) as store:
        store.blobs.put(os.urandom(300_000))
        (root / "mounts" / "x").mkdir()
        (root / "mounts" / "x" / "y").write_bytes(bytes(200_000))
        holdings = Holdings(store)
        for _ in range(2):
            count = holdings.count(Stated())
            own = sum(holdings.own().values())
            found = measure(str(root))
            assert abs(count.kept + own - found) < 100_000  # the database, directories
            store.blobs.put(os.urandom(300_000))


def test_what_processes_state_is_read_back_and_nothing_else_is() -> None:
    stated = Stated(3, 5, {"a": 1, "b": 2})
    assert Stated.decode(stated.encode()) == stated
    for text in (b"", b"x", b"1\n", b"1 2\n3\n", b"\xff\xff 1\n"):
        assert Stated.decode(text) is None


def test_extents_count_blocks_and_each_file_once_over_all_trees(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for tree in (one, two):
        tree.mkdir()
    with open(one / "sparse", "wb") as file:
        file.truncate(50 * MB)
    assert extent(str(one)).size < MB
    (one / "file").write_bytes(os.urandom(3 * MB))
    alone = extent(str(one))
    assert alone.alone
    os.link(one / "file", one / "again")
    assert extent(str(one)).size == alone.size
    os.link(one / "file", two / "there")
    first, second = extent(str(one)), extent(str(two))
    assert not first.alone
    assert not second.alone
    assert abs(first.size + second.size - measure(str(tmp_path))) < 50_000


def test_what_was_written_before_anybody_looked_is_not_kept(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        keep_below(store, CEILING)
        budget = store.budget
        assert budget is not None
        active = store.deltas.begin()
        told: list[EnvironmentFault] = []
        with budget.writing(active.fs, told.append):
            with open(Path(active.fs, "file"), "wb") as file:
                os.posix_fallocate(file.fileno(), 0, CEILING)  # at once, be the disk busy or not
            with pytest.raises(EnvironmentFault, match=r"ceiling of 40.00MB"):
                budget.settle()


def test_a_ceiling_of_one_byte_is_one(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        keep_below(store, 1)
        with pytest.raises(EnvironmentFault, match="would take more than its ceiling of 1B"):
            store.deltas.begin()


def test_stores_of_clients_do_not_count(store: Store, root: Path) -> None:
    before = Holdings(store).count(Stated()).kept
    theirs = root / "owners/1/blobs"
    theirs.mkdir(parents=True)
    (theirs / "x").write_bytes(b"x" * (1 << 20))
    assert Holdings(store).count(Stated()).kept - before < 1 << 20
