"""Lists of files: kept by a diskcache that can neither unpickle nor touch files, and bounded by it."""

from __future__ import annotations

import importlib
import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.records import listings as module
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.named import Listing
from tests.clocks import FakeClock

CONTENT, OTHER = Digest.of(b"content"), Digest.of(b"other")
LISTING: Listing = (("dir/a", "100644 0:0 1 00"), (os.fsdecode(b"caf\xe9\n"), "120777 0:0 0 >a b"))


def execute(root: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(root / "listings" / "cache.db")) as connection:
        connection.execute(statement, values)
        connection.commit()


def noise(count: int, seed: int = 0) -> Listing:
    """Return a list that does not compress."""
    return tuple((os.urandom(40).hex(), f"100644 0:0 {seed} {n}") for n in range(count))


def test_a_list_comes_back_and_the_first_stays(store: Store) -> None:
    assert store.listings.get(CONTENT) is None
    store.listings.add(CONTENT, LISTING)
    store.listings.add(CONTENT, ())
    store.listings.add(OTHER, ())
    assert store.listings.get(CONTENT) == LISTING
    assert store.listings.get(OTHER) == ()


def test_a_long_list_is_small(store: Store, root: Path) -> None:
    listing = tuple((f"dir/file-{n:06}", f"100644 0:0 {n} {n:016x}") for n in range(20_000))
    store.listings.add(CONTENT, listing)
    assert store.listings.get(CONTENT) == listing
    files = (root / "listings").iterdir()
    assert sum(path.stat().st_size for path in files) < 20_000 * 50


def test_another_process_reads_it(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        store.listings.add(CONTENT, LISTING)
    with Store.open(root, clock) as store:
        assert store.listings.get(CONTENT) == LISTING


@pytest.mark.slow
def test_those_stored_first_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 400_000)
    digests = [Digest.of(b"%d" % n) for n in range(20)]
    for n, digest in enumerate(digests):
        store.listings.add(digest, noise(1000, n))
    kept = [store.listings.get(digest) is not None for digest in digests]
    assert not kept[0]
    assert kept[-1]
    assert kept == sorted(kept)


def test_a_list_that_would_fill_it_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LISTING_BYTES", 1000)
    store.listings.add(CONTENT, noise(1000))
    assert store.listings.get(CONTENT) is None


class Malicious:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def plant(root: Path, mode: int, filename: str | None, value: object) -> None:
    execute(root, "UPDATE Cache SET mode = ?, filename = ?, value = ?", *(mode, filename, value))


def test_the_planted_pickle_would_work(tmp_path: Path) -> None:
    """The plain diskcache runs it: the next tests do not pass for want of a real attack."""
    cache_type: Any = importlib.import_module("diskcache").Cache
    with cache_type(str(tmp_path / "listings")) as cache:
        cache.set(CONTENT, b"innocent")
    mark = tmp_path / "pwned"
    plant(tmp_path, 4, None, pickle.dumps(Malicious(mark)))
    with cache_type(str(tmp_path / "listings")) as cache:
        cache.get(CONTENT)
    assert mark.exists()


def test_a_planted_pickle_is_not_read(store: Store, root: Path, tmp_path: Path) -> None:
    store.listings.add(CONTENT, LISTING)
    mark = tmp_path / "pwned"
    plant(root, 4, None, pickle.dumps(Malicious(mark)))
    assert store.listings.get(CONTENT) is None
    assert not mark.exists()
    store.listings.add(CONTENT, LISTING)
    assert store.listings.get(CONTENT) == LISTING


def test_a_planted_pickle_in_a_file_is_not_read(store: Store, root: Path, tmp_path: Path) -> None:
    store.listings.add(CONTENT, LISTING)
    mark = tmp_path / "pwned"
    (root / "listings" / "evil.val").write_bytes(pickle.dumps(Malicious(mark)))
    plant(root, 4, "evil.val", None)
    assert store.listings.get(CONTENT) is None
    assert not mark.exists()


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_planted_file_name_is_neither_read_nor_deleted(
    store: Store, root: Path, tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100_000)
    secret = tmp_path / "secret"
    secret.write_text("{}")
    store.listings.add(CONTENT, LISTING)
    plant(root, mode, str(secret), None)
    for number in range(20):  # so many that the planted one has to go
        store.listings.add(Digest.of(b"%d" % number), noise(200))
    assert store.listings.get(CONTENT) is None
    assert secret.exists()


def garbage(root: Path) -> None:
    for path in (root / "listings").iterdir():
        path.write_bytes(b"\xa5" * 8192)


def no_table(root: Path) -> None:
    execute(root, "DROP TABLE Cache")


def other_columns(root: Path) -> None:
    execute(root, "DROP TABLE Cache")
    execute(root, "CREATE TABLE Cache (a, b)")


def hostile_setting(root: Path) -> None:
    execute(root, "INSERT OR REPLACE INTO Settings VALUES ('get', 'x')")


def moved_elsewhere(root: Path) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    execute(root, "INSERT OR REPLACE INTO Settings VALUES ('_directory', ?)", str(elsewhere))


def a_directory(root: Path) -> None:
    for path in (root / "listings").iterdir():
        path.unlink()
    (root / "listings" / "cache.db").mkdir()


@pytest.mark.parametrize(
    "damage",
    [garbage, no_table, other_columns, hostile_setting, moved_elsewhere, a_directory],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_database_is_begun_anew(
    root: Path, clock: FakeClock, warnings: list[str], damage: Callable[[Path], None]
) -> None:
    with Store.open(root, clock) as store:
        store.listings.add(CONTENT, LISTING)
    damage(root)
    with Store.open(root, clock, warn=warnings.append) as store:
        assert store.listings.get(CONTENT) in (None, LISTING)
        store.listings.add(OTHER, LISTING)
        store.listings.add(OTHER, LISTING)
        assert store.listings.get(OTHER) == LISTING
    assert not (root.parent / "elsewhere" / "cache.db").exists()
    assert len(warnings) <= 1


@pytest.mark.parametrize("value", [b"", b"no list", 7, "text", None])
def test_a_damaged_list_is_no_list(store: Store, root: Path, value: object) -> None:
    store.listings.add(CONTENT, LISTING)
    execute(root, "UPDATE Cache SET value = ?", value)
    assert store.listings.get(CONTENT) is None


def test_a_process_does_without_where_faults_do_not_end(
    store: Store, root: Path, warnings: list[str]
) -> None:
    for _ in range(7):
        store.listings.add(CONTENT, LISTING)
        if (root / "listings" / "cache.db").exists():
            hostile_setting(root)
        store.listings.close()
    assert len(warnings) == 3
    assert store.listings.get(CONTENT) is None
