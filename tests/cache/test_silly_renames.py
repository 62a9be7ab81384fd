"""Directories of a file system that keeps deleted files under another name, as NFS does while they are open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pybuild.cache.disk.trees import remove_tree
from pybuild.cache.store import Store
from tests.clocks import FakeClock


class SillyDisk:
    """Deletes an open file by giving it a name like ``.nfs0001``, which stays until it is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: set[str] = set()
        self._unlink = os.unlink
        self._count = 0
        monkeypatch.setattr(os, "unlink", self.unlink)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        name = os.path.basename(path)
        if name.startswith(".nfs"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        if name not in self.open:
            self._unlink(path, dir_fd=dir_fd)
            return
        self._count += 1
        silly = os.path.join(os.path.dirname(path), f".nfs{self._count:04}")
        os.rename(path, silly, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def close(self, top: Path) -> None:
        """Close all files that were open: their renamed remains go."""
        self.open.clear()
        for left in top.rglob(".nfs*"):
            self._unlink(str(left))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SillyDisk:
    return SillyDisk(monkeypatch)


def fill(top: Path) -> None:
    for name in ("a/open", "a/b/c/open", "a/b/shut", "z/shut"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("x")


def test_all_else_goes_and_the_rest_is_told(disk: SillyDisk, tmp_path: Path) -> None:
    """A directory in which a name appears while it is emptied is not tried for ever."""
    fill(tmp_path / "tree")
    disk.open = {"open"}
    with pytest.raises(OSError, match="busy|not empty") as caught:
        remove_tree(str(tmp_path / "tree"))
    assert caught.value.errno in (errno.EBUSY, errno.ENOTEMPTY)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 2
    assert all(name.startswith(".nfs") for name in left)
    disk.close(tmp_path)
    for rest in tmp_path.iterdir():
        remove_tree(str(rest))
    assert not any(tmp_path.iterdir())


def test_a_store_works_on_and_frees_it_later(disk: SillyDisk, tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root, FakeClock()) as store:
        active = store.deltas.begin()
        fill(Path(active.fs))
        disk.open = {"open"}
        store.deltas.abort(active)
        store.blobs.put(b"more")
    with Store.open(root, FakeClock()) as store:
        store.tmp.sweep()
        store.blobs.put(b"and more")
        store.deltas.commit(store.deltas.begin())
    disk.close(root)
    with Store.open(root, FakeClock()) as store:
        store.tmp.sweep()
    assert not list((root / "tmp").rglob("shut"))
