"""Claims on results that processes are making: the kernel keeps them, and frees them [KEY-14]."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from pybuild.cache.records.claims import KeyClaims
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from tests.cache.children import kill, line, start

KEY, OTHER = Digest.of(b"key"), Digest.of(b"other")


def test_one_of_two_has_a_claim(store: Store) -> None:
    twin = KeyClaims(store.root)
    assert store.claims.take(KEY)
    assert not twin.take(KEY)
    assert twin.take(OTHER)
    store.claims.release(KEY)
    assert twin.take(KEY)
    twin.close()
    assert store.claims.take(OTHER)


def test_who_has_a_claim_may_claim_it_again(store: Store) -> None:
    """A step that is given up and begun again in one process."""
    twin = KeyClaims(store.root)
    assert store.claims.take(KEY)
    assert store.claims.take(KEY)
    store.claims.release(KEY)
    assert not twin.take(KEY)
    store.claims.release(KEY)
    assert twin.take(KEY)
    twin.close()


def test_a_claim_never_had_is_nothing_to_release(store: Store) -> None:
    store.claims.release(KEY)
    assert store.claims.take(KEY)


@pytest.mark.slow
def test_a_killed_process_has_no_claim(store: Store) -> None:
    program = 'print(store.claims.take(Digest.of(b"key")), flush=True); time.sleep(600)'
    child = start(Path(store.root), program)
    try:
        assert line(child) == "True"
        assert not store.claims.take(KEY)
    finally:
        kill(child)
    assert store.claims.take(KEY)


def test_without_locks_everybody_makes_everything(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    twin = KeyClaims(store.root)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    for _ in range(2):
        assert store.claims.take(KEY)
        assert twin.take(KEY)
    store.claims.release(KEY)
    twin.close()


def test_a_store_that_cannot_be_written_has_no_claims(tmp_path: Path) -> None:
    claims = KeyClaims(str(tmp_path / "gone"))
    assert claims.take(KEY)
    claims.close()


def test_claims_leave_an_empty_file(store: Store) -> None:
    for number in range(100):
        key = Digest.of(b"%d" % number)
        assert store.claims.take(key)
        store.claims.release(key)
    assert (Path(store.root) / "locks/making").stat().st_size == 0
