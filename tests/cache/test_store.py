"""Opening: fast, in one piece, and with a clear word about what cannot be opened [GC-8]."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.model.errors import EnvironmentFault
from tests.cache import children
from tests.clocks import FakeClock


def test_new_store_is_an_image_layout(store: Store, root: Path) -> None:
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_bytes())["manifests"] == []
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert (store.root, store.tmp.path) == (str(root), str(root / "tmp"))
    assert store.mounts_dir == str(root / "mounts")


def test_reopened_store_has_everything(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        digest = store.blobs.put(b"hello")
        id = store.deltas.commit(store.deltas.begin())
        store.records.put("k", "x", {"a": 1})
    with Store.open(str(root), clock) as store:
        assert store.blobs.has(digest)
        assert store.deltas.has(id)
        assert store.records.get("k", "x") == {"a": 1}


def test_directories_that_a_copy_left_out_are_made_again(root: Path, clock: FakeClock) -> None:
    Store.open(root, clock).close()
    for name in ("locks", "tmp", "leases", "records"):
        shutil.rmtree(root / name)
    with Store.open(root, clock) as store:
        Path(store.deltas.begin().fs, "file").write_bytes(b"x")


def test_opening_lists_nothing(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(root, clock).close()

    def refuse(*_arguments: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    Store.open(root, clock).close()


def test_import_is_light() -> None:
    program = (
        "import sys, pybuild.cache.store, pybuild.cache.content.images\n"
        "heavy = {'typing', 'dataclasses', 'sqlite3', 'diskcache', 'ctypes', 'asyncio', 'pathlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_reading_records_does_without_diskcache(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        store.records.put("k", "x", {"ok": 1})
    program = "print(store.records.get('k', 'x'), store.records.get('k', 'y'), 'diskcache' in sys.modules)"
    child = children.start(root, program)
    assert child.communicate(timeout=60)[0] == "{'ok': 1} None False\n"


def test_relative_root_is_made_absolute(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open("here/store", clock) as store:
        assert store.root == str(tmp_path / "here" / "store")


def test_future_version_is_refused_and_untouched(root: Path, clock: FakeClock) -> None:
    Store.open(root, clock).close()
    (root / "store.json").write_text('{"version": 2}')
    with pytest.raises(EnvironmentFault) as caught:
        Store.open(root, clock)
    assert caught.value.message == (
        f"store {root} is of version 2, made by a newer pybuild; this one knows 1"
    )
    assert (root / "store.json").read_text() == '{"version": 2}'


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": "1"}', '{"version": true}', "\xff"])
def test_strange_version_is_refused(root: Path, clock: FakeClock, text: str) -> None:
    Store.open(root, clock).close()
    (root / "store.json").write_text(text)
    with pytest.raises(EnvironmentFault, match=r"has a store\.json that is not one of ours"):
        Store.open(root, clock)


def test_folder_of_something_else_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(EnvironmentFault) as caught:
        Store.open(tmp_path, clock)
    assert caught.value.message == (
        f'store {tmp_path} is not a pybuild store: it holds "thesis.tex"'
    )
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_file_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EnvironmentFault, match="is not a directory"):
        Store.open(tmp_path / "file", clock)
    with pytest.raises(EnvironmentFault):
        Store.open(tmp_path / "file" / "below", clock)


def test_fresh_file_system_is_taken(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "lost+found").mkdir()
    Store.open(tmp_path, clock).close()


def test_half_made_store_is_finished(root: Path, clock: FakeClock) -> None:
    with Store.open(root, clock) as store:
        digest = store.blobs.put(b"hello")
    (root / "store.json").unlink()
    (root / "index.json").unlink()
    (root / "mounts").rmdir()
    with Store.open(root, clock) as store:
        assert store.blobs.has(digest)
        assert store.images.list() == []
        assert os.path.isdir(store.mounts_dir)


def test_unwritable_store_names_its_owner(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root everything is writable, so the kernel's answer stands in for a read-only mount."""
    Store.open(root, clock).close()

    def refuse(_path: str, _mode: int) -> bool:
        return False

    monkeypatch.setattr(os, "access", refuse)
    with pytest.raises(EnvironmentFault) as caught:
        Store.open(root, clock)
    assert "is not writable for uid" in caught.value.message
    assert caught.value.hints == ("put the store elsewhere with PYBUILD_ROOT",)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_users_store_is_refused(root: Path, clock: FakeClock) -> None:
    Store.open(root, clock).close()
    for folder in (root, *root.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            Store.open(root, clock)
        except EnvironmentFault as error:
            os._exit(0 if "it belongs to uid 0" in error.message else 2)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_two_threads_create_one_store(root: Path, clock: FakeClock) -> None:
    barrier = threading.Barrier(4)
    opened: list[Store] = []

    def create() -> None:
        barrier.wait()
        opened.append(Store.open(root, clock))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for store in opened:
        store.close()
    assert os.listdir(root / "tmp") == []


def test_a_brief_command_deletes_at_its_end_and_starts_no_thread(
    root: Path, clock: FakeClock
) -> None:
    before = set(threading.enumerate())
    with Store.open(root, clock, brief=True) as store:
        (root / "tmp" / "trash.somebodys").mkdir()
        tree = Path(store.scratch("tree"))
        tree.mkdir()
        store.discard(str(tree))
        assert (set(threading.enumerate()), tree.exists()) == (before, False)
        assert len(os.listdir(root / "tmp")) == 3  # our lock, and what is to be deleted
    assert os.listdir(root / "tmp") == []


def test_close_leaves_no_thread_and_no_file(root: Path, clock: FakeClock) -> None:
    before = set(threading.enumerate())
    with Store.open(root, clock) as store:
        store.blobs.put(b"hello")
        store.deltas.abort(store.deltas.begin())
        store.deltas.commit(store.deltas.begin())
    assert set(threading.enumerate()) <= before
    assert os.listdir(root / "leases") == []
    assert [name for name in os.listdir(root / "tmp") if name.endswith(".lock")] == []


def test_tmp_of_the_dead_goes_and_of_the_living_stays(store: Store, root: Path) -> None:
    program = (
        "a = store.deltas.begin(); open(a.fs + '/x', 'w').close()\n"
        "open(store.scratch('.tar'), 'w').close(); print(a.path, flush=True)\n"
        "sys.stdin.readline()"
    )
    child = children.start(root, program)
    try:
        path = children.line(child)
        (root / "tmp" / "rubbish").mkdir()
        ours = store.deltas.begin()
        store.tmp.sweep()
        assert os.path.isdir(path)
        assert os.path.isdir(ours.path)
        assert not (root / "tmp" / "rubbish").exists()
    finally:
        children.kill(child)
    store.tmp.sweep()
    names = os.listdir(root / "tmp")
    assert len(names) == 2, names  # our delta and our lock
    assert os.path.isdir(ours.path)


def _refuse(path: str, *_: object) -> int:
    raise PermissionError(13, "Permission denied", path)


def test_injected_remover_gets_what_belongs_to_others(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []

    def remove(path: str) -> int:
        removed.append(path)
        return 4096

    with Store.open(root, clock, remover=remove) as store:
        store.deltas.abort(store.deltas.begin())
        os.mkdir(work := store.scratch("work"))
        store.discard(work)
        store.tmp.sweep()
    # The store's own thread sweeps, too, and may have found the same directory.
    assert len(set(removed)) == 1  # it has a directory of changes
    monkeypatch.setattr("pybuild.cache.disk.scratch.remove_tree", _refuse)
    with Store.open(root, clock, remover=remove) as store:
        os.mkdir(work := store.scratch("work"))
        store.discard(work)
        store.tmp.sweep()
    assert len(set(removed)) == 2
    assert all(os.path.dirname(path) == str(root / "tmp") for path in removed)


def test_failing_remover_harms_nobody(
    root: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pybuild.cache.disk.scratch.remove_tree", _refuse)
    with Store.open(root, clock, remover=_refuse) as store:
        active = store.deltas.begin()
        store.deltas.abort(active)
        store.tmp.sweep()
        id = store.deltas.commit(store.deltas.begin())
        assert store.deltas.has(id)
