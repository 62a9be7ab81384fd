"""Deleting trees that hostile steps made."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from pybuild.cache.disk import trees
from pybuild.cache.disk.trees import Stopped, remove_tree


def test_file_link_and_nothing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(target)
    for name in ("file", "link", "nothing"):
        remove_tree(str(tmp_path / name))
    assert os.listdir(tmp_path) == ["target"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "dir").symlink_to(outside)
    (tree / "a" / "file").symlink_to(outside / "deep" / "file")
    (tree / "a" / "gone").symlink_to("/nonexistent")
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "deep" / "file").read_text() == "x"


def test_special_files_go(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "fifo")
    (tree / os.fsdecode(b"caf\xe9\n")).write_text("x")
    os.link(tree / os.fsdecode(b"caf\xe9\n"), tree / "hard")
    remove_tree(str(tree))
    assert not tree.exists()


def test_modes_do_not_matter(tmp_path: Path) -> None:
    """Really tested by an ordinary user: root may enter everything."""
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_text("x")
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    if os.geteuid() == 0:
        for path in (tree, tree / "a", tree / "a" / "b", tree / "a" / "b" / "c", tmp_path):
            os.chown(path, 65534, 65534)
    for path in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a"):
        path.chmod(0)
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            remove_tree(str(tree))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not tree.exists()


@pytest.mark.slow
def test_ten_thousand_levels(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(10_000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.fchmod(fd, 0)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    pid = os.fork()
    if pid == 0:
        try:
            # Of its own, whatever the tests before it have open here.
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
            remove_tree(str(tree))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.listdir(tmp_path) == []


def test_wide_and_deep_enough_to_be_moved_up(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree
    for level in range(60):
        deep = deep / f"d{level}"
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
        (deep / "side").mkdir()
        (deep / "side" / "file").write_text("x")
    remove_tree(str(tree))
    assert os.listdir(tmp_path) == []


def test_stopping_leaves_the_rest(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(5):
        (tree / str(number)).mkdir(parents=True)
        (tree / str(number) / "file").write_text("x")
    calls = iter([False, False, False, True])
    with pytest.raises(Stopped):
        remove_tree(str(tree), lambda: next(calls))
    assert tree.exists()
    remove_tree(str(tree))
    assert not tree.exists()


def test_what_cannot_be_removed_is_told_and_all_else_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    for name in ("held", "a/file", "z"):
        (tree / name).write_text("x")
    removed = trees.unlink

    def unlink(name: str, fd: int) -> int:
        if name == "held":
            raise PermissionError(1, "Operation not permitted", name)
        return removed(name, fd)

    monkeypatch.setattr(trees, "unlink", unlink)
    with pytest.raises(OSError, match=r"held|not empty"):
        remove_tree(str(tree))
    assert os.listdir(tree) == ["held"]
