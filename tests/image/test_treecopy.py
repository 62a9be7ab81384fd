"""Finished trees outside the store [OUT-5, OUT-6, OUT-16, REP-2]."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pybuild.image.layer.pieces import Chunker
from pybuild.image.layer.treecopy import copy_tree, leaf_paths, trees_tar
from pybuild.model.errors import UserError

from .trees import look, root_only


def plant(root: Path) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "file").write_bytes(b"x" * 2_000_000)
    os.link(root / "d" / "file", root / "z")
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "fifo")
    (root / "d" / "e" / ".wh.kept").write_text("only a name here")
    os.chmod(root / "d" / "e", 0o555)
    for path in (root / "d/file", root / "d/e", root / "d"):
        os.utime(path, (1000, 1000))


def test_copy_keeps_everything_but_the_owner(tmp_path: Path) -> None:
    plant(tmp_path / "in")
    copy_tree(str(tmp_path / "in"), str(tmp_path / "out"))
    assert look(tmp_path / "out") == look(tmp_path / "in")


@pytest.mark.parametrize("answer", [0, OSError()], ids=["nothing", "error"])
def test_bytes_are_copied_where_the_kernel_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | OSError
) -> None:
    def refuse(source: int, target: int, count: int) -> int:
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "copy_file_range", refuse)
    plant(tmp_path / "in")
    copy_tree(str(tmp_path / "in"), str(tmp_path / "out"))
    assert look(tmp_path / "out") == look(tmp_path / "in")


@root_only
def test_copies_belong_to_whoever_runs_and_lend_no_powers(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, owner in (("mine", 0), ("theirs", 12)):
        (tmp_path / "in" / name).write_text("")
        os.chown(tmp_path / "in" / name, owner, owner)
        os.chmod(tmp_path / "in" / name, 0o4755)
    copy_tree(str(tmp_path / "in"), str(tmp_path / "out"))
    mine, theirs = (tmp_path / "out/mine").stat(), (tmp_path / "out/theirs").stat()
    assert (mine.st_uid, theirs.st_uid) == (0, 0)
    assert (stat.S_IMODE(mine.st_mode), stat.S_IMODE(theirs.st_mode)) == (0o4755, 0o755)


@pytest.mark.root
def test_copy_again_replaces_files_and_merges_directories(tmp_path: Path) -> None:
    plant(tmp_path / "in")
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (tmp_path / "out/d").mkdir(parents=True)
    (tmp_path / "out/d/mine").write_text("kept")
    (tmp_path / "out/z").symlink_to(victim)
    (tmp_path / "out/d/e").symlink_to(tmp_path)
    for _ in range(2):
        copy_tree(str(tmp_path / "in"), str(tmp_path / "out"))
    assert victim.read_text() == "safe"
    assert (tmp_path / "out/d/mine").read_text() == "kept"
    assert (tmp_path / "out/d/e/.wh.kept").exists() and not (tmp_path / ".wh.kept").exists()
    assert (tmp_path / "out/z").stat().st_nlink == 2


def test_directory_in_the_way_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path / "in")
    (tmp_path / "out/d/file").mkdir(parents=True)
    with pytest.raises(UserError, match='cannot write "d/file": a directory is in the way'):
        copy_tree(str(tmp_path / "in"), str(tmp_path / "out"))


def test_epoch_is_the_time_of_everything(tmp_path: Path) -> None:
    """REP-2: also of what is older."""
    plant(tmp_path / "in")
    copy_tree(str(tmp_path / "in"), str(tmp_path / "out"), epoch=1500)
    assert {path.lstat().st_mtime for path in (tmp_path / "out").rglob("*")} == {1500}


def test_tar_of_a_tree_is_plain_and_repeats(tmp_path: Path) -> None:
    plant(tmp_path / "in")
    made: list[bytes] = []
    for _ in range(2):
        out = io.BytesIO()
        trees_tar([("", str(tmp_path / "in"), 1500)], Chunker.into(out.write))
        made.append(out.getvalue())
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as archive:
        names = archive.getnames()
        assert names == ["d", "d/e", "d/e/.wh.kept", "d/file", "fifo", "link", "z"]
        assert {member.mtime for member in archive.getmembers()} == {1500}


def test_tar_of_several_trees_has_a_directory_for_each(tmp_path: Path) -> None:
    """OUT-6, REP-2."""
    plant(tmp_path / "one")
    plant(tmp_path / "two")
    out = io.BytesIO()
    roots = [("a_b", str(tmp_path / "one"), None), ("c_d_e", str(tmp_path / "two"), 1500)]
    trees_tar(roots, Chunker.into(out.write))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        members = {member.name: member for member in archive.getmembers()}
    names = ["d", "d/e", "d/e/.wh.kept", "d/file", "fifo", "link", "z"]
    expected = ["a_b", *(f"a_b/{name}" for name in names)]
    assert list(members) == [*expected, "c_d_e", *(f"c_d_e/{name}" for name in names)]
    assert (members["a_b"].mtime, members["a_b/d"].mtime, members["a_b"].mode) == (0, 1000, 0o755)
    assert {members[name].mtime for name in members if name.startswith("c")} == {1500}
    assert (members["a_b/z"].linkname, members["c_d_e/z"].linkname) == (
        "a_b/d/file",
        "c_d_e/d/file",
    )


def test_paths_of_all_that_is_no_directory(tmp_path: Path) -> None:
    plant(tmp_path)
    assert list(leaf_paths(str(tmp_path))) == [b"d/e/.wh.kept", b"d/file", b"fifo", b"link", b"z"]


@pytest.mark.root
def test_a_tree_may_replace_what_is_there(tmp_path: Path) -> None:
    """OUT-17: at every level, whatever it is; a link's target is left alone."""
    source, target, outside = (tmp_path / name for name in ("source", "target", "outside"))
    for path in ("source/d", "target/d/old/deep", "target/f", "target/locked", "outside"):
        (tmp_path / path).mkdir(parents=True)
    (outside / "kept").write_text("kept")
    (source / "d/new").write_text("new")
    (source / "f").write_text("file")
    (target / "d/old/deep/x").write_text("x")
    (target / "link").symlink_to(outside)
    (target / "d/new").symlink_to(outside / "kept")
    (target / "locked").chmod(0)
    copy_tree(str(source), str(target), replaces=True)
    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert found == {"d", "d/new", "f"}
    assert (target / "d/new").read_text() == "new"
    assert (outside / "kept").read_text() == "kept"
