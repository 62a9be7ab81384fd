"""A store of an earlier pybuild, which had a diskcache keep its records, opens as it was."""

from __future__ import annotations

import hashlib
import json
import pickle
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pybuild.cache.records.earlier import earlier_records
from pybuild.cache.store import Store
from tests.cache.test_listings import Malicious
from tests.clocks import FakeClock

# As diskcache 5.6.3 makes it.
TABLE = (
    "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
    " expire_time REAL, access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB,"
    " size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT, value BLOB)"
)
INSERT = "INSERT INTO Cache(key, raw, store_time, mode, value) VALUES (?, ?, 0, ?, ?)"


def row(kind: str, key: str, value: object) -> tuple[object, ...]:
    text = json.dumps(value, separators=(",", ":"))
    seal = hashlib.sha256(f"{kind}:{key}\n{text}".encode()).hexdigest()
    return f"{kind}:{key}", 1, 1, seal + text


@pytest.fixture
def earlier(root: Path, clock: FakeClock) -> Path:
    """Make a store as an earlier pybuild left it; return its database."""
    Store.open(root, clock).close()
    database = root / "records" / "cache.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(TABLE)
        connection.execute(INSERT, row("result", "a", {"x": 1}))
        connection.execute(INSERT, row("alias", "x:y", {"x": 2}))
        connection.execute(INSERT, row("listing", "c/0", {"x": 3}))
        connection.commit()
    return database


def test_its_records_are_read(
    root: Path, clock: FakeClock, earlier: Path, warnings: list[str]
) -> None:
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.records.get("result", "a") == {"x": 1}
        assert list(store.records.items("alias")) == [("x:y", {"x": 2})]
        assert store.records.kinds() == ["alias", "result"]
        store.records.delete("result", "a")
    assert not earlier.exists()
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.records.kinds() == ["alias"]
    assert warnings == []


def test_a_write_comes_beside_them(root: Path, clock: FakeClock, earlier: Path) -> None:
    with Store.open(root, clock) as store:
        store.records.put("result", "b", {"x": 4})
        assert store.records.keys("result") == ["a", "b"]
    assert not earlier.exists()


def test_who_only_looks_changes_nothing_and_says_so(
    root: Path, clock: FakeClock, earlier: Path, warnings: list[str]
) -> None:
    with Store.open(root, clock, warn=warnings.append, to_read=True) as store:
        assert store.records.get("result", "a") is None
    assert earlier.exists()
    assert not (root / "records" / "records.db").exists()
    assert warnings == [f"store {root} is an earlier pybuild's; a build has its records shown"]


def test_what_others_planted_there_is_not_read(
    root: Path, clock: FakeClock, earlier: Path, tmp_path: Path, warnings: list[str]
) -> None:
    mark = tmp_path / "pwned"
    with closing(sqlite3.connect(earlier)) as connection:
        evil = pickle.dumps(Malicious(mark))
        connection.execute(INSERT, ("result:evil", 1, 4, evil))
        connection.execute(INSERT, (evil, 0, 1, "x"))
        connection.commit()
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.records.get("result", "evil") is None
        assert store.records.get("result", "a") == {"x": 1}
        store.records.put("result", "b", {"x": 4})
    assert not mark.exists()
    assert len(warnings) == 1


def test_a_damaged_database_is_lost_and_said_to_be(
    root: Path, clock: FakeClock, earlier: Path, warnings: list[str]
) -> None:
    earlier.write_bytes(b"hello world\n" * 1000)
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.records.get("result", "a") is None
        store.records.put("result", "a", {"x": 5})
        assert store.records.get("result", "a") == {"x": 5}
    assert len(warnings) == 1
    assert "cache records of an earlier pybuild were damaged, and are lost" in warnings[0]


def test_seals_are_kept_as_they_were(earlier: Path) -> None:
    assert earlier_records(str(earlier.parent), pytest.fail) == [
        ("result", "a", row("result", "a", {"x": 1})[3]),
        ("alias", "x:y", row("alias", "x:y", {"x": 2})[3]),
    ]
