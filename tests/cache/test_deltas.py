"""Deltas: committed by rename, whole or missing, also after a power failure [STO-3, GC-8]."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pybuild.cache.content import deltas, flusher
from pybuild.cache.content.flusher import hand_over, wait_for_others
from pybuild.cache.disk.atomic import Disk
from pybuild.cache.store import Store
from pybuild.model.errors import EnvironmentFault
from tests.clocks import FakeClock


def make(store: Store, id: str | None = None, text: str = "x") -> str:
    active = store.deltas.begin()
    Path(active.fs, "file").write_text(text)
    return store.deltas.commit(active, id)


def tmp_entries(root: Path) -> list[str]:
    return [name for name in os.listdir(root / "tmp") if not name.endswith(".lock")]


def test_commit_moves_the_tree_under_its_name(store: Store, root: Path, clock: FakeClock) -> None:
    active = store.deltas.begin()
    assert stat.S_IMODE(os.stat(active.fs).st_mode) == 0o755
    assert os.path.dirname(active.path) == store.tmp.path
    Path(active.fs, "file").write_text("x")
    os.makedirs(os.path.join(active.work, "work"), 0o000)
    id = store.deltas.commit(active, meta={"size": 12})
    assert store.deltas.path(id) == str(root / "snapshots" / id / "fs")
    assert Path(store.deltas.path(id), "file").read_text() == "x"
    assert store.deltas.has(id)
    meta = store.deltas.meta(id)
    assert (meta["size"], meta["created"]) == (12, clock.time)
    assert not os.path.exists(os.path.join(root, "snapshots", id, "work"))


def test_random_ids_differ(store: Store) -> None:
    assert make(store) != make(store)


def test_commit_of_a_taken_id_keeps_the_first(store: Store) -> None:
    assert make(store, "sha256-aa", "first") == "sha256-aa"
    assert make(store, "sha256-aa", "second") == "sha256-aa"
    assert Path(store.deltas.path("sha256-aa"), "file").read_text() == "first"


def test_commit_replaces_the_ruin_of_another_boot(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        make(store, "sha256-aa", "first")
        forget_durability(store, "sha256-aa", boot="another")
    with Store.open(root, clock) as store:
        assert not store.deltas.has("sha256-aa")
        make(store, "sha256-aa", "second")
        assert store.deltas.has("sha256-aa")
        assert Path(store.deltas.path("sha256-aa"), "file").read_text() == "second"


def forget_durability(store: Store, id: str, boot: str | None = None) -> None:
    """Leave the delta as a crash before the flush leaves it, in this boot or *boot*."""
    store.deltas.flush()
    folder = Path(store.deltas.path(id)).parent
    (folder / "durable").unlink()
    if boot is not None:
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, "boot": boot}))


def test_flushed_delta_survives_a_power_failure(store: Store, root: Path) -> None:
    id = make(store)
    store.deltas.flush()
    meta = root / "snapshots" / id / "meta.json"
    meta.write_text(json.dumps({"boot": "another"}))
    assert store.deltas.has(id)


def test_unflushed_delta_counts_for_this_boot_only(
    store: Store, root: Path, clock: FakeClock
) -> None:
    id = make(store)
    forget_durability(store, id)
    with Store.open(root, clock) as another:
        assert another.deltas.has(id)
    forget_durability_again = Path(store.deltas.path(id)).parent / "meta.json"
    forget_durability_again.write_text("")  # as a file whose blocks never reached the disk
    with Store.open(root, clock) as another:
        assert not another.deltas.has(id)


def test_what_was_whole_and_is_gone_is_not_had(store: Store) -> None:
    id = make(store)
    assert store.deltas.has(id)
    store.deltas.take_away(id)
    assert not store.deltas.has(id)


def test_whether_a_delta_is_whole_is_read_once(
    store: Store, root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of a chain asks for all that are below it."""
    mine, theirs = make(store), make(store)
    forget_durability(store, theirs)
    read: list[str] = []
    with Store.open(root, clock) as another:
        meta = another.deltas.meta

        def spy(id: str) -> dict[str, Any]:
            read.append(id)
            return meta(id)

        monkeypatch.setattr(another.deltas, "meta", spy)
        assert all(another.deltas.has(id) for id in (mine, theirs, mine, theirs))
    assert read == [theirs]


def test_next_process_flushes_what_the_last_one_left(
    store: Store, root: Path, clock: FakeClock
) -> None:
    id = make(store)
    forget_durability(store, id)
    with Store.open(root, clock) as another:
        make(another)
    assert (root / "snapshots" / id / "durable").exists()


def test_close_flushes(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        id = make(store)
    assert (root / "snapshots" / id / "durable").exists()


def test_a_process_of_its_own_flushes_what_is_left(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a command of a package that is installed in place.
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not os.path.isdir(f"{p}/pybuild")])
    left, another_boots = make(store), make(store)
    forget_durability(store, left)
    forget_durability(store, another_boots, boot="another")
    (root / "snapshots" / "stray").mkdir()
    pid = hand_over(str(root / "snapshots"))
    assert os.waitpid(pid, 0)[1] == 0
    assert (root / "snapshots" / left / "durable").exists()
    assert not (root / "snapshots" / another_boots / "durable").exists()
    assert os.listdir(root / "snapshots" / "stray") == []


def test_whoever_prunes_can_wait_for_that_process(store: Store, root: Path) -> None:
    left = make(store)
    forget_durability(store, left)
    folder = str(root / "snapshots")
    assert wait_for_others(folder, 0)
    pid = hand_over(folder)
    assert wait_for_others(folder, 60)
    assert (root / "snapshots" / left / "durable").exists()
    assert os.waitpid(pid, 0)[1] == 0


def test_waiting_for_it_has_an_end(root: Path) -> None:
    folder = root / "snapshots"
    assert wait_for_others(str(folder), 0), "there is no store"
    folder.mkdir(parents=True)
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert not wait_for_others(str(folder), 0.02)
    os.close(fd)
    assert wait_for_others(str(folder), 0)


def test_no_process_flushes_what_lies_in_memory(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_memory(path: str) -> str:
        return "tmpfs"

    def begun(folder: str) -> None:
        pytest.fail("a process was begun")

    monkeypatch.setattr(deltas, "file_system", in_memory)
    monkeypatch.setattr(flusher, "hand_over", begun)
    with Store.open(root, clock) as store:
        store.flush_after_us()
        id = make(store)
    assert (root / "snapshots" / id / "durable").exists()


def test_closing_leaves_the_flush_to_who_was_told_so(root: Path, clock: FakeClock) -> None:
    handed: list[str] = []
    with Store.open(root, clock) as store:
        store.deltas.flush_after_us(handed.append)
        id = make(store)
    assert handed == [str(root / "snapshots")]
    assert not (root / "snapshots" / id / "durable").exists()
    with Store.open(root, clock) as store:
        store.deltas.flush_after_us(handed.append)
    assert len(handed) == 1, "nothing was made, nothing is left to do"


def test_closing_flushes_where_nobody_else_can(root: Path, clock: FakeClock) -> None:
    def fails(folder: str) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with Store.open(root, clock) as store:
        store.deltas.flush_after_us(fails)
        id = make(store)
    assert (root / "snapshots" / id / "durable").exists()


def test_failing_flush_is_a_warning_and_marks_nothing(root: Path, clock: FakeClock) -> None:
    class Broken(Disk):
        def flush_file_system(self, path: str) -> None:
            raise OSError(5, "Input/output error")

    warnings: list[str] = []
    with Store.open(root, clock, disk=Broken(), warn=warnings.append) as store:
        id = make(store)
    assert not (root / "snapshots" / id / "durable").exists()
    assert warnings == [
        "snapshots may be lost in a power failure: cannot flush: input/output error"
    ]


def test_without_a_boot_id_commit_flushes_at_once(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.cache.content.deltas.boot_id", lambda: None)
    with Store.open(root, FakeClock()) as blind:
        id = make(blind)
        assert (root / "snapshots" / id / "durable").exists()
        assert blind.deltas.has(id)


def test_abort_leaves_nothing(store: Store, root: Path) -> None:
    active = store.deltas.begin()
    Path(active.fs, "file").write_text("x")
    store.deltas.abort(active)
    assert not os.path.exists(active.path)
    store.deltas.abort(active)
    store.tmp.sweep()
    assert tmp_entries(root) == []


def test_remove_takes_it_away_at_once(store: Store, root: Path) -> None:
    id = make(store)
    taken = store.deltas.take_away(id)
    assert not store.deltas.has(id)
    assert store.deltas.take_away(id) is None
    assert taken is not None
    assert store.tmp.delete(taken) > 0
    deadline = time.monotonic() + 60
    while (
        tmp_entries(root) and time.monotonic() < deadline
    ):  # the janitor may be in the middle of it
        store.tmp.sweep()
    assert tmp_entries(root) == []


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "../x", "-x", "a\n", "a" * 300, ".hidden"])
def test_ids_cannot_leave_the_store(store: Store, id: str) -> None:
    with pytest.raises(ValueError, match="invalid snapshot id"):
        store.deltas.path(id)
    with pytest.raises(ValueError, match="invalid snapshot id"):
        store.deltas.has(id)


def test_commit_under_an_invalid_id_discards_the_delta(store: Store) -> None:
    active = store.deltas.begin()
    with pytest.raises(ValueError, match="invalid snapshot id"):
        store.deltas.commit(active, "../x")
    assert not os.path.exists(active.path)


def test_ids_pass_over_files_of_others(store: Store, root: Path) -> None:
    id = make(store)
    (root / "snapshots" / "README").write_text("x")
    (root / "snapshots" / ".hidden").mkdir()
    (root / "snapshots" / "link").symlink_to("/")
    assert list(store.deltas.ids()) == [id]


def test_strangers_file_under_the_id_gives_way(store: Store, root: Path) -> None:
    (root / "snapshots" / "sha256-aa").write_text("x")
    make(store, "sha256-aa")
    assert store.deltas.has("sha256-aa")


def test_commit_without_space_says_so_and_leaves_nothing(root: Path, clock: FakeClock) -> None:
    class Full(Disk):
        full = False

        def write(self, fd: int, data: bytes | memoryview) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().write(fd, data)

    disk = Full()
    with Store.open(root, clock, disk=disk) as store:
        first = make(store)  # the lease has its file already
        active = store.deltas.begin()
        disk.full = True
        with pytest.raises(EnvironmentFault, match="no space left on device on the file system at"):
            store.deltas.commit(active, "sha256-bb")
        disk.full = False
        assert list(store.deltas.ids()) == [first]
        assert not os.path.exists(active.path)


def test_a_name_that_is_always_taken_by_what_is_not_whole_is_a_fault(
    root: Path, clock: FakeClock
) -> None:
    class Taken(Disk):
        """A disk on which somebody makes that name again at once."""

        tries = 0

        def rename(self, source: str, target: str) -> None:
            if os.path.dirname(target).endswith("snapshots"):
                self.tries += 1
                raise OSError(errno.ENOTEMPTY, "Directory not empty", target)
            super().rename(source, target)

    disk = Taken()
    with Store.open(root, clock, disk=disk) as store:
        active = store.deltas.begin()
        with pytest.raises((OSError, EnvironmentFault)):
            store.deltas.commit(active, "0123abcd")
        assert disk.tries == 8
        assert not os.path.exists(active.path) and not store.deltas.has("0123abcd")
