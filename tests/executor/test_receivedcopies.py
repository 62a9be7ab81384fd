"""Kept copies between processes: nobody changes what another reads, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.space.prune import prune
from pybuild.cache.store import Store
from pybuild.executor.trees.receivedcopies import Copies, CopyOrigin
from tests.daemon.peers import open_store

ORIGIN = CopyOrigin(name="context", shared_key="dir")

_HOLD = """
import sys, time
from tests.daemon.peers import open_store
from pybuild.executor.trees.receivedcopies import Copies, CopyOrigin
store = open_store(sys.argv[1])
copy = Copies(store).take(CopyOrigin(name="context", shared_key="dir"))
open(copy.path + "/half", "w").write("half")
if sys.argv[2] == "read":
    copy.received()
print(copy.id, flush=True)
time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.mark.slow
@pytest.mark.parametrize("state", ["write", "read"])
def test_a_copy_is_its_holders_until_he_is_dead(store: Store, state: str) -> None:
    command = [sys.executable, "-c", _HOLD, store.root, state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            held = holder.stdout.readline().strip()
            assert os.path.isdir(os.path.join(store.contexts_dir, held))
            copies = Copies(store)
            other = copies.take(ORIGIN)
            assert other.id != held
            prune(store)
            assert os.path.isdir(os.path.join(store.contexts_dir, held))
            holder.send_signal(signal.SIGKILL)
            holder.wait(60)
            again = copies.take(ORIGIN)
            assert again.id == held
            assert os.listdir(again.path) == ["half"]
            other.close()
            again.close()
        finally:
            holder.kill()


def test_the_same_part_is_taken_before_one_used_later(store: Store) -> None:
    copies = Copies(store)
    parts = [CopyOrigin(name="context", patterns=((), (), (name,))) for name in ("a", "b")]
    held = [copies.take(part) for part in parts]
    ids = [copy.id for copy in held]
    for copy in held:
        copy.received()
        copy.close()
    for part, id in zip(parts, ids, strict=True):
        copy = copies.take(part)
        assert copy.id == id
        copy.close()


def test_a_damaged_or_half_removed_copy_is_not_taken(store: Store) -> None:
    copies = Copies(store)
    first = copies.take(ORIGIN)
    first.close()
    Path(first.home, "meta.json").write_text("{")
    second = copies.take(ORIGIN)
    assert second.id != first.id
    second.close()
    os.rename(second.path, second.path + ".gone")
    third = copies.take(ORIGIN)
    assert third.id not in (first.id, second.id)
    third.close()


def test_copies_that_prune_took_meanwhile_are_no_matter(store: Store) -> None:
    copies = Copies(store)
    copy = copies.take(ORIGIN)
    store.discard(copies.folder)
    copy.close()
    again = copies.take(ORIGIN)
    assert again.id != copy.id
    again.close()
