"""Blobs: named by digest, checked on the way in and out [STO-1, IMG-22]."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing, EnvironmentFault

HELLO = Digest.of(b"hello")
OTHER = Digest.of(b"other")


def leftovers(root: Path) -> list[str]:
    return [
        os.path.relpath(os.path.join(folder, name), root / "tmp")
        for folder, _, names in os.walk(root / "tmp")
        for name in names
        if not name.endswith(".lock")
    ]


def test_put_names_the_blob_by_its_digest(store: Store, root: Path) -> None:
    assert store.blobs.put(b"hello") == HELLO
    path = root / "blobs" / "sha256" / HELLO.hex
    assert store.blobs.path(HELLO) == str(path)
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert store.blobs.has(HELLO)
    assert store.blobs.size(HELLO) == 5
    assert store.blobs.read(HELLO) == b"hello"


def test_mode_does_not_depend_on_the_umask(store: Store) -> None:
    before = os.umask(0o077)
    try:
        store.blobs.put(b"hello")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(store.blobs.path(HELLO)).st_mode) == 0o644


def test_put_again_writes_nothing(store: Store) -> None:
    store.blobs.put(b"hello")
    before = os.stat(store.blobs.path(HELLO))
    store.blobs.put(b"hello")
    assert os.stat(store.blobs.path(HELLO)).st_ino == before.st_ino


def test_put_heals_a_truncated_blob(store: Store) -> None:
    store.blobs.put(b"hello")
    os.truncate(store.blobs.path(HELLO), 2)
    store.blobs.put(b"hello")
    assert store.blobs.read(HELLO) == b"hello"


def test_missing_blob_is_a_key_error_that_names_it(store: Store) -> None:
    with pytest.raises(BlobMissing) as caught:
        store.blobs.read(HELLO)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value) == f"blob {HELLO}: not in the store"
    with pytest.raises(BlobMissing):
        store.blobs.size(HELLO)
    with pytest.raises(BlobMissing):
        store.blobs.verify(HELLO)


@pytest.mark.parametrize("damage", [b"hellO", b"hell", b"", b"hello!"])
def test_damaged_blob_is_missed_and_moved_away(store: Store, damage: bytes) -> None:
    store.blobs.put(b"hello")
    Path(store.blobs.path(HELLO)).write_bytes(damage)
    with pytest.raises(BlobMissing, match="damaged"):
        store.blobs.read(HELLO)
    assert not store.blobs.has(HELLO)


def test_verify_moves_a_damaged_blob_away(store: Store) -> None:
    store.blobs.put(b"hello")
    assert store.blobs.verify(HELLO)
    Path(store.blobs.path(HELLO)).write_bytes(b"hellO")
    assert not store.blobs.verify(HELLO)
    assert not store.blobs.has(HELLO)


def test_read_has_a_limit(store: Store) -> None:
    store.blobs.put(b"hello")
    assert store.blobs.read(HELLO, limit=5) == b"hello"
    with pytest.raises(EnvironmentFault) as caught:
        store.blobs.read(HELLO, limit=4)
    assert caught.value.message == f"blob {HELLO}: larger than the limit of 4 bytes"
    assert store.blobs.has(HELLO)


@pytest.mark.parametrize("name", ["sha256:../../index.json", "sha256:", "md5:" + "a" * 32, "x"])
def test_what_is_no_digest_is_no_path(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="invalid digest"):
        store.blobs.path(name)


def test_writer_takes_pieces(store: Store) -> None:
    with store.blobs.writer(HELLO, 5) as writer:
        writer.write(b"hel")
        writer.write(memoryview(b"lo"))
        assert writer.commit() == (HELLO, 5)
    assert store.blobs.read(HELLO) == b"hello"


def test_writer_finds_the_digest(store: Store) -> None:
    with store.blobs.writer() as writer:
        writer.write(b"hello")
        assert writer.commit() == (HELLO, 5)
    assert ("blob", HELLO) in store.leases.held()


def test_writer_knows_sha512(store: Store) -> None:
    import hashlib

    digest = Digest.parse("sha512:" + hashlib.sha512(b"hello").hexdigest())
    with store.blobs.writer(digest) as writer:
        writer.write(b"hello")
        writer.commit()
    assert store.blobs.read(digest) == b"hello"
    assert digest in dict(store.blobs.list())


def test_writer_says_what_came_instead(store: Store, root: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught, store.blobs.writer(HELLO, 5) as writer:
        writer.write(b"other")
        writer.commit()
    assert caught.value.message == f"blob {HELLO}: got {OTHER} after 5 of 5 bytes"
    assert not store.blobs.has(HELLO)
    assert not store.blobs.has(OTHER)
    assert leftovers(root) == []


def test_writer_refuses_a_short_blob(store: Store) -> None:
    fault = pytest.raises(EnvironmentFault, match="after 3 of 5 bytes")
    with fault, store.blobs.writer(HELLO, 5) as writer:
        writer.write(b"hel")
        writer.commit()


def test_writer_stops_at_the_announced_size(store: Store) -> None:
    with pytest.raises(EnvironmentFault) as caught, store.blobs.writer(HELLO, 5) as writer:
        writer.write(b"hello!")
    assert caught.value.message == f"blob {HELLO}: got more than 5 bytes"


def test_writer_without_commit_leaves_nothing(store: Store, root: Path) -> None:
    with store.blobs.writer(HELLO) as writer:
        writer.write(b"hello")
    assert not store.blobs.has(HELLO)
    assert leftovers(root) == []


def test_adopt_moves_a_finished_file_in(store: Store) -> None:
    path = Path(store.scratch())
    path.write_bytes(b"hello")
    store.blobs.adopt(str(path), HELLO, 5)
    assert not path.exists()
    assert store.blobs.read(HELLO) == b"hello"
    assert stat.S_IMODE(os.stat(store.blobs.path(HELLO)).st_mode) == 0o644


def test_adopt_refuses_another_size(store: Store) -> None:
    path = Path(store.scratch())
    path.write_bytes(b"hello")
    with pytest.raises(EnvironmentFault, match="5 of 6 bytes"):
        store.blobs.adopt(str(path), HELLO, 6)
    assert not path.exists()
    assert not store.blobs.has(HELLO)


def test_adopt_follows_no_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hello")
    path = store.scratch()
    os.symlink(tmp_path / "secret", path)
    with pytest.raises(EnvironmentFault):
        store.blobs.adopt(path, HELLO, 5)
    assert (tmp_path / "secret").exists()


def test_delete_is_idempotent(store: Store) -> None:
    store.blobs.put(b"hello")
    store.blobs.delete(HELLO)
    store.blobs.delete(HELLO)
    assert not store.blobs.has(HELLO)


def test_list_passes_over_files_of_others(store: Store, root: Path) -> None:
    store.blobs.put(b"hello")
    folder = root / "blobs" / "sha256"
    (folder / "README").write_text("x")
    (folder / ("g" * 64)).write_text("not hex")
    (folder / ("a" * 64)).mkdir()
    assert [digest for digest, _ in store.blobs.list()] == [HELLO]


def test_threads_that_put_the_same_blob_agree(store: Store) -> None:
    data = bytes(100_000)
    barrier = threading.Barrier(8)

    def put() -> None:
        barrier.wait()
        store.blobs.put(data)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.blobs.read(Digest.of(data)) == data
