"""Records: what a hostile or damaged database can do is cost time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.records.database import MAX_VALUE_BYTES, Records, RecordTooLarge
from pybuild.cache.store import Store
from pybuild.model.errors import EnvironmentFault
from tests.clocks import FakeClock


def database(root: Path) -> Path:
    return root / "records" / "records.db"


def execute(root: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(database(root))) as connection:
        connection.execute(statement, values)
        connection.commit()


def test_put_get_delete(store: Store) -> None:
    assert store.records.get("result", "a") is None
    store.records.put("result", "a", {"x": [1, None, "ü", 1.5]})
    store.records.put("result", "a", {"x": [2]})
    assert store.records.get("result", "a") == {"x": [2]}
    assert store.records.get("other", "a") is None
    store.records.delete("result", "a")
    store.records.delete("result", "a")
    assert store.records.get("result", "a") is None


def test_the_log_beside_the_database_is_made_once(root: Path, clock: FakeClock) -> None:
    """SQLite flushes it when it is made and when its last user closes: each waits for the disk."""
    with Store.open(root, clock) as store:
        store.records.put("result", "a", {"x": 1})
    log = database(root).with_name("records.db-wal")
    assert not log.exists()
    with Store.open(root, clock) as store:
        assert store.records.get("result", "a") == {"x": 1}
        with log.open("rb") as first:  # nor is its number given to another
            store.records.put("result", "b", {"x": 2})
            other = threading.Thread(target=store.records.put, args=("result", "c", {"x": 3}))
            other.start()
            other.join()
            assert len(list(store.records.items("result"))) == 3
            assert os.path.samestat(log.stat(), os.fstat(first.fileno()))


def test_names_that_are_not_utf8_survive(store: Store) -> None:
    name = os.fsdecode(b"caf\xe9")
    store.records.put("files", "x", {name: name})
    assert store.records.get("files", "x") == {name: name}
    with pytest.raises(ValueError, match="not UTF-8"):
        store.records.put("files", name, {})


def test_items_are_of_one_kind_and_sorted(store: Store) -> None:
    for kind, key in (("b", "2"), ("b", "1"), ("a", "9"), ("bb", "3"), ("b", "x:y")):
        store.records.put(kind, key, {"is": kind + key})
    assert list(store.records.items("b")) == [
        ("1", {"is": "b1"}),
        ("2", {"is": "b2"}),
        ("x:y", {"is": "bx:y"}),
    ]
    assert store.records.keys("b") == ["1", "2", "x:y"]
    assert store.records.kinds() == ["a", "b", "bb"]


@pytest.mark.parametrize("kind", ["", "a:b"])
def test_kind_must_not_run_into_the_key(store: Store, kind: str) -> None:
    with pytest.raises(ValueError, match="invalid record kind"):
        store.records.put(kind, "x", {})


def test_large_values_are_refused(store: Store) -> None:
    store.records.put("k", "fits", {"x": "a" * (MAX_VALUE_BYTES - 100)})
    with pytest.raises(RecordTooLarge, match="k record big"):
        store.records.put("k", "big", {"x": "a" * MAX_VALUE_BYTES})
    assert store.records.get("k", "big") is None


def test_nothing_expires_and_nothing_is_evicted(store: Store) -> None:
    for number in range(300):
        store.records.put("k", str(number), {"x": "a" * 1000})
    assert sum(1 for _ in store.records.items("k")) == 300


@pytest.mark.parametrize("value", [b"\xff", 7, None, "x" * 100])
def test_planted_rows_of_other_types_are_passed_over(
    store: Store, root: Path, value: object
) -> None:
    store.records.put("k", "y", {"ok": 1})
    execute(root, "INSERT INTO records VALUES ('k', 'x', ?)", "" if value is None else value)
    execute(root, "INSERT INTO records VALUES (?, ?, '')", b"k\xff", b"\xff")
    assert store.records.get("k", "x") is None
    assert list(store.records.items("k")) == [("y", {"ok": 1})]
    assert store.records.keys("k") == ["x", "y"]
    assert store.records.kinds() == ["k"]


def test_value_with_a_wrong_digest_is_a_miss(store: Store, root: Path) -> None:
    store.records.put("k", "x", {"ok": 1})
    execute(root, "UPDATE records SET value = replace(value, 'ok', 'ko')")
    assert store.records.get("k", "x") is None
    assert list(store.records.items("k")) == []


def test_value_of_another_key_is_a_miss(store: Store, root: Path) -> None:
    store.records.put("k", "x", {"ok": 1})
    store.records.put("k", "y", {"ok": 2})
    execute(
        root,
        "UPDATE records SET value = (SELECT value FROM records WHERE key = 'x') WHERE key = 'y'",
    )
    assert store.records.get("k", "y") is None


def truncate(root: Path) -> None:
    os.truncate(database(root), 3000)


def empty(root: Path) -> None:
    os.truncate(database(root), 0)


def garbage_pages(root: Path) -> None:
    size = database(root).stat().st_size
    with open(database(root), "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def not_a_database(root: Path) -> None:
    database(root).write_bytes(b"hello world\n" * 1000)


def drop_table(root: Path) -> None:
    execute(root, "DROP TABLE records")


def other_columns(root: Path) -> None:
    execute(root, "DROP TABLE records")
    execute(root, "CREATE TABLE records (a, b)")


def a_directory(root: Path) -> None:
    database(root).unlink()
    database(root).mkdir()


DAMAGES = [
    truncate,
    empty,
    garbage_pages,
    not_a_database,
    drop_table,
    other_columns,
    a_directory,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("first", ["get", "put", "items", "delete"])
def test_damaged_database_is_begun_anew(
    root: Path, clock: FakeClock, warnings: list[str], damage: object, first: str
) -> None:
    with Store.open(root, clock) as store:
        for number in range(60):
            store.records.put("k", str(number), {"x": "a" * 500})
    assert callable(damage)
    damage(root)
    with Store.open(root, clock, warn=warnings.append) as store:
        if first == "get":
            assert store.records.get("k", "1") in (None, {"x": "a" * 500})  # sound or nothing
        elif first == "items":
            list(store.records.items("k"))
        elif first == "delete":
            store.records.delete("k", "1")
        store.records.put("k", "new", {"ok": 1})
        assert store.records.get("k", "new") == {"ok": 1}
        assert ("new", {"ok": 1}) in list(store.records.items("k"))
    aside = [name for name in os.listdir(root) if name.startswith("records.damaged-")]
    assert len(aside) == len(warnings) <= 1
    assert all("the cache records were damaged" in warning for warning in warnings)
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.records.get("k", "new") == {"ok": 1}
    assert len(warnings) == len(aside)


def test_damage_while_open_is_noticed(
    store: Store, root: Path, clock: FakeClock, warnings: list[str]
) -> None:
    store.records.put("k", "x", {"ok": 1})
    with Store.open(root, clock) as another:
        another.records.put("k", "y", {"ok": 1})
    drop_table(root)
    assert store.records.get("k", "x") is None
    store.records.put("k", "x", {"ok": 2})
    assert store.records.get("k", "x") == {"ok": 2}
    assert len(warnings) == 1


def test_other_process_follows_to_the_new_database(
    store: Store, root: Path, clock: FakeClock, warnings: list[str]
) -> None:
    store.records.put("k", "x", {"ok": 1})
    with Store.open(root, clock) as another:
        another.records.put("k", "y", {"ok": 1})
        drop_table(root)
        assert store.records.get("k", "x") is None
        another.records.put("k", "y", {"ok": 2})
        assert store.records.get("k", "y") == {"ok": 2}
    assert len(warnings) == 1
    assert (root / "records.damaged-1").exists()
    assert not (root / "records.damaged-2").exists()


@pytest.mark.parametrize("use", ["get", "put"])
def test_a_database_that_is_moved_aside_while_it_is_opened_is_made_anew(
    root: Path, clock: FakeClock, warnings: list[str], monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """Another thread found it damaged: who comes at that moment reads nothing, or writes to the next."""
    with Store.open(root, clock) as store:
        store.records.put("k", "x", {"ok": 1})
    connect = sqlite3.connect

    def late(*args: Any, **named: Any) -> Any:
        monkeypatch.undo()
        database(root).parent.rename(root / "records.damaged-1")
        return connect(*args, **named)

    with Store.open(root, clock, warn=warnings.append) as store:
        monkeypatch.setattr("_sqlite3.connect", late)
        if use == "put":
            store.records.put("k", "x", {"ok": 2})
        assert store.records.get("k", "x") == ({"ok": 2} if use == "put" else None)
    assert warnings == []


def test_database_that_breaks_again_and_again_is_given_up(
    store: Store, root: Path, warnings: list[str]
) -> None:
    for _ in range(3):
        store.records.put("k", "x", {"ok": 1})
        drop_table(root)
        assert store.records.get("k", "x") is None
    store.records.put("k", "x", {"ok": 1})
    drop_table(root)
    assert store.records.get("k", "x") is None
    with pytest.raises(EnvironmentFault, match="the database is damaged, and so was the new one"):
        store.records.put("k", "x", {"ok": 1})
    assert len(warnings) == 3


def test_locked_database_is_no_damage(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    monkeypatch.setattr("pybuild.cache.records.database.BUSY_S", 0)
    store.records.put("k", "x", {"ok": 1})
    with closing(sqlite3.connect(database(root), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.records.get("k", "x") == {"ok": 1}
        with pytest.raises(EnvironmentFault, match="the database was locked for 0 s"):
            store.records.put("k", "x", {"ok": 2})
        other.execute("ROLLBACK")
    store.records.put("k", "x", {"ok": 3})
    assert warnings == []


def test_full_disk_is_a_fault_and_keeps_the_old_value(root: Path, clock: FakeClock) -> None:
    class Full(Disk):
        full = False

        def gate(self, what: str) -> None:
            if self.full:
                raise sqlite_full()

    disk = Full()
    warnings: list[str] = []
    with Store.open(root, clock, disk=disk, warn=warnings.append) as store:
        store.records.put("k", "x", {"ok": 1})
        disk.full = True
        with pytest.raises(EnvironmentFault, match="no space left on device"):
            store.records.put("k", "x", {"ok": 2})
        disk.full = False
        assert store.records.get("k", "x") == {"ok": 1}
    assert warnings == []


def test_too_little_memory_is_no_damage(root: Path, clock: FakeClock) -> None:
    class Small(Disk):
        small = False

        def gate(self, what: str) -> None:
            if self.small:
                raise MemoryError

    disk = Small()
    warnings: list[str] = []
    with Store.open(root, clock, disk=disk, warn=warnings.append) as store:
        store.records.put("k", "x", {"ok": 1})
        disk.small = True
        with pytest.raises(MemoryError):
            store.records.put("k", "x", {"ok": 2})
        disk.small = False
        assert store.records.get("k", "x") == {"ok": 1}
    assert warnings == []


def sqlite_full() -> sqlite3.Error:
    """Return the error that SQLite itself gives when it cannot grow."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (x)")
        try:
            connection.execute("INSERT INTO t VALUES (?)", (bytes(100_000),))
        except sqlite3.Error as error:
            return error
    raise AssertionError("it fitted")


def test_threads_write_at_once(store: Store) -> None:
    done: list[int] = []

    def work(number: int) -> None:
        for turn in range(15):
            store.records.put("k", f"{number}-{turn}", {"turn": turn})
            assert store.records.get("k", f"{number}-{turn}") == {"turn": turn}
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(6))
    assert sum(1 for _ in store.records.items("k")) == 90


@pytest.mark.slow
def test_processes_write_at_once(root: Path, clock: FakeClock) -> None:
    program = (
        "import sys; from pybuild.cache.store import Store; from tests.clocks import *\n"
        "s = Store.open(sys.argv[1], FakeClock())\n"
        "for n in range(30): s.records.put('k', f'{sys.argv[2]}-{n}', {'n': n})\n"
        "s.close()"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(root), str(number)])
        for number in range(4)
    ]
    assert [child.wait(60) for child in children] == [0] * 4
    with Store.open(root, clock) as store:
        assert sum(1 for _ in store.records.items("k")) == 120


def test_version_changes_with_others_writes(store: Store, root: Path, clock: FakeClock) -> None:
    store.records.put("k", "x", {})
    before = store.records.version()
    store.records.put("k", "x", {"own": 1})
    assert store.records.version() == before
    with Store.open(root, clock) as another:
        another.records.put("k", "x", {"others": 1})
    assert store.records.version() != before


@pytest.mark.slow
def test_many_who_use_new_records_at_once_lose_none(tmp_path: Path) -> None:
    """A reader sees the file before its table, and then the table, between two questions."""
    for number in range(20):
        root = tmp_path / str(number)
        (root / "locks").mkdir(parents=True)
        warnings: list[str] = []
        records = Records(str(root), Disk(), warnings.append)
        gate = threading.Barrier(6)

        def use(name: str, records: Records = records, gate: threading.Barrier = gate) -> object:
            gate.wait()
            before = records.get("k", name)
            records.put("k", name, {"v": 1})
            return before, records.get("k", name)

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(use, "abcdef"))
        records.close()
        assert answers == [(None, {"v": 1})] * 6
        assert warnings == []
