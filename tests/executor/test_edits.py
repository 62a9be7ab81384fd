"""File actions that copy nothing, and the bytes and attributes of files, done in a directory as it lies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pybuild.executor.files import edits
from pybuild.executor.files.content import SMALL_BYTES, copy_content, copy_xattrs, counted_xattrs
from pybuild.executor.files.refreshing import date_parents, is_additive
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.border import WorkerCall

IN_NS = 5_000_000_001
MINE = (os.geteuid(), os.getegid())
CALL = WorkerCall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- directories [WD-1] -------------------------------------------------------------------------------


def mkdir(tree: Tree, path: str, *, parents: bool = True, mtime_ns: int | None = IN_NS) -> None:
    edits.mkdir(tree, path, mode=0o750, parents=parents, owner=None, mtime_ns=mtime_ns)


def test_a_directory_is_made_with_its_parents(tree: Tree, root: Path) -> None:
    mkdir(tree, "/a/b")
    for name in ("a", "a/b"):
        assert mode(root / name) == 0o750
        assert (root / name).stat().st_mtime_ns == IN_NS
    mkdir(tree, "/l/in")
    assert (root / "d/in").is_dir()


def test_one_that_is_there_stays_as_it_is(tree: Tree, root: Path) -> None:
    (root / "d").chmod(0o700)
    before = (root / "d").stat().st_mtime_ns
    mkdir(tree, "/d")
    mkdir(tree, "/", parents=False)
    assert (mode(root / "d"), (root / "d").stat().st_mtime_ns) == (0o700, before)


@pytest.mark.parametrize(
    ("path", "parents", "message"),
    [
        ("/f", True, "mkdir /f: not a directory: /f"),
        ("/f/x", True, "mkdir /f/x: not a directory: /f"),
        ("/no/x", False, "mkdir /no/x: /no does not exist"),
    ],
)
def test_directories_that_cannot_be(tree: Tree, path: str, parents: bool, message: str) -> None:
    with pytest.raises(Fault) as caught:
        mkdir(tree, path, parents=parents)
    assert (caught.value.kind, caught.value.message) == (USER, message)
    assert bool(caught.value.hints) is path.startswith("/f")


# --- files --------------------------------------------------------------------------------------------


def mkfile(tree: Tree, path: str, *, parents: bool = True, mtime_ns: int | None = IN_NS) -> None:
    edits.mkfile(tree, path, b"new", mode=0o751, parents=parents, owner=None, mtime_ns=mtime_ns)


def test_a_file_is_written_with_its_parents(tree: Tree, root: Path) -> None:
    mkfile(tree, "/a/b")
    assert (root / "a/b").read_text() == "new"
    assert (mode(root / "a/b"), (root / "a/b").stat().st_mtime_ns) == (0o751, IN_NS)
    assert (root / "a").stat().st_mtime_ns == IN_NS
    mkfile(tree, "/l/in", parents=False, mtime_ns=None)
    assert (root / "d/in").read_text() == "new"
    assert (root / "d/in").stat().st_mtime_ns > IN_NS


def test_a_file_that_is_there_keeps_its_mode_and_a_link_does_not(tree: Tree, root: Path) -> None:
    (root / "keep").write_text("kept")
    (root / "other").symlink_to("keep")
    mkfile(tree, "/f")
    assert ((root / "f").read_text(), mode(root / "f")) == ("new", 0o600)
    os.mkfifo(root / "pipe")
    mkfile(tree, "/pipe")
    assert ((root / "pipe").read_text(), mode(root / "pipe")) == ("new", 0o751)


def test_names_of_a_file_that_is_rewritten_keep_what_they_had(tree: Tree, root: Path) -> None:
    os.link(root / "f", root / "g")
    mkfile(tree, "/f")
    assert (root / "g").read_text() == "old"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/d", "cannot replace to directory /d with file"),
        ("/l", "cannot replace to directory /d with file"),
        ("/no/x", "/no/x: no such file or directory: /no"),
        ("/f/x", "/f/x: no such file or directory: /f"),
    ],
)
def test_files_that_cannot_be(tree: Tree, path: str, message: str) -> None:
    with pytest.raises(Fault) as caught:
        mkfile(tree, path, parents=False)
    assert (caught.value.kind, caught.value.message) == (USER, message)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, so it needs root")
def test_owners_of_what_is_made(tree: Tree, root: Path) -> None:
    given = {"owner": (7, 8), "mtime_ns": None}
    edits.mkdir(tree, "/a/b", mode=0o755, parents=True, **given)  # type: ignore[arg-type]
    edits.mkfile(tree, "/c/d", b"", mode=0o6755, parents=True, **given)  # type: ignore[arg-type]
    edits.symlink(tree, "/s", "x", **given)  # type: ignore[arg-type]
    edits.mkfile(tree, "/f", b"", mode=0o644, parents=True, **given)  # type: ignore[arg-type]
    for name in ("a", "a/b", "c", "c/d", "s", "f"):
        made = (root / name).lstat()
        assert (made.st_uid, made.st_gid) == (7, 8)
    assert mode(root / "c/d") == 0o6755  # though chown drops set-id bits
    os.chown(root / "c/d", 5, 6)
    edits.mkfile(tree, "/c/d", b"", mode=0o644, parents=True, owner=None, mtime_ns=None)
    assert ((root / "c/d").stat().st_uid, (root / "c/d").stat().st_gid) == (5, 6)


# --- links --------------------------------------------------------------------------------------------


def test_a_link_is_made_as_it_is_written(tree: Tree, root: Path) -> None:
    edits.symlink(tree, "/l/new/", "../no//where", owner=None, mtime_ns=IN_NS)
    assert os.readlink(root / "d/new") == "../no//where"
    assert (root / "d/new").lstat().st_mtime_ns == IN_NS
    edits.symlink(tree, "/x", "y", owner=None, mtime_ns=None)
    assert (root / "x").lstat().st_mtime_ns > IN_NS


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/", "symlink t /: not a name for a link"),
        ("/d/..", "symlink t /d/..: not a name for a link"),
        ("/d/.", "symlink t /d/.: not a name for a link"),
        ("/f", "symlink t /f: file exists"),
        ("/l", "symlink t /l: file exists"),
        ("/no/x", "/no/x: no such file or directory: /no"),
        ("/f/x", "/f/x: no such file or directory: /f"),
    ],
)
def test_links_that_cannot_be(tree: Tree, path: str, message: str) -> None:
    with pytest.raises(Fault) as caught:
        edits.symlink(tree, path, "t", owner=None, mtime_ns=None)
    assert (caught.value.kind, caught.value.message) == (USER, message)


# --- removals -----------------------------------------------------------------------------------------


def test_a_path_is_removed_with_all_below_it(tree: Tree, root: Path) -> None:
    (root / "d/deep/er").mkdir(parents=True)
    edits.remove(tree, "/l", wildcard=False, allow_not_found=False)
    assert not (root / "l").is_symlink()
    assert (root / "d").exists()
    edits.remove(tree, "/d", wildcard=False, allow_not_found=False)
    edits.remove(tree, "/f", wildcard=False, allow_not_found=True)
    assert list(root.iterdir()) == []


def test_patterns_remove_what_they_match(tree: Tree, root: Path) -> None:
    edits.remove(tree, "/[dl]", wildcard=True, allow_not_found=False)
    assert [path.name for path in root.iterdir()] == ["f"]
    (root / "*").write_text("")
    edits.remove(tree, "/*", wildcard=False, allow_not_found=False)
    assert [path.name for path in root.iterdir()] == ["f"]


@pytest.mark.parametrize(
    ("path", "allowed", "message"),
    [
        ("/no", False, "remove /no: no such file or directory"),
        ("/no/x", False, "remove /no/x: no such file or directory"),
        ("/f/x", False, "remove /f/x: not a directory"),
        ("/f/x", True, "remove /f/x: not a directory"),
        ("/", True, "cannot remove the root of a file tree"),
    ],
)
def test_removals_that_cannot_be(tree: Tree, path: str, allowed: bool, message: str) -> None:
    with pytest.raises(Fault) as caught:
        edits.remove(tree, path, wildcard=False, allow_not_found=allowed)
    assert (caught.value.kind, caught.value.message) == (USER, message)


def test_what_is_not_there_may_be_fine(tree: Tree, root: Path) -> None:
    before = sorted(root.iterdir())
    for path in ("/no", "/no/x"):
        edits.remove(tree, path, wildcard=False, allow_not_found=True)
    assert sorted(root.iterdir()) == before


# --- content ------------------------------------------------------------------------------------------

SPARSE = 3 << 20


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", b"x" * (SMALL_BYTES - 1), b"x" * SMALL_BYTES),
        b"ab" * SMALL_BYTES,
    ],
    ids=["none", "one", "below", "small", "large"],
)
def test_bytes_are_copied(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        copied = copy_content(source.fileno(), target.fileno(), os.fstat(source.fileno()))
    assert copied == len(data)
    assert (tmp_path / "b").read_bytes() == data


@pytest.mark.parametrize(
    ("at", "size"), [((0,), SPARSE), ((1 << 20,), SPARSE), ((0, SPARSE - 1), SPARSE), ((), SPARSE)]
)
def test_holes_stay_holes(tmp_path: Path, at: tuple[int, ...], size: int) -> None:
    with (tmp_path / "a").open("wb") as file:
        for place in at:
            os.pwrite(file.fileno(), b"x", place)
        file.truncate(size)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        assert copy_content(source.fileno(), target.fileno(), os.fstat(source.fileno())) == size
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert (tmp_path / "b").stat().st_blocks * 512 <= 64 << 10


def test_a_file_that_grew_is_copied_a_little_over_what_it_had(tmp_path: Path) -> None:
    """The copy shows by its bytes that the size was another; a file may have no end."""
    (tmp_path / "a").write_bytes(b"x" * 10)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        before = os.fstat(source.fileno())
        (tmp_path / "a").write_bytes(b"x" * 100)
        assert copy_content(source.fileno(), target.fileno(), before) == 11
    assert (tmp_path / "b").stat().st_size == 11


def test_a_file_that_shrank_gives_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10)
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        before = os.fstat(source.fileno())
        (tmp_path / "a").write_bytes(b"x" * 4)
        assert copy_content(source.fileno(), target.fileno(), before) == 4


def test_files_of_the_kernel_say_that_they_are_empty(tmp_path: Path) -> None:
    with open("/proc/version", "rb") as source, (tmp_path / "b").open("w+b") as target:
        status = os.fstat(source.fileno())
        assert status.st_size == 0
        copied = copy_content(source.fileno(), target.fileno(), status)
    assert (tmp_path / "b").read_bytes() == Path("/proc/version").read_bytes()
    assert copied == (tmp_path / "b").stat().st_size


def test_attributes_that_count_are_copied(tmp_path: Path) -> None:
    """CP-23."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("")
    for name in ("user.z", "user.a", "user.overlay.x", "user.com.apple.y", "user.pybuild.owner"):
        try:
            os.setxattr(tmp_path / "a", name, name.encode())
        except OSError:
            pytest.skip("no attributes on this file system")
    with (tmp_path / "a").open("rb") as source, (tmp_path / "b").open("w+b") as target:
        kept = [("user.a", b"user.a"), ("user.z", b"user.z")]
        assert counted_xattrs(source.fileno())[:2] == kept
        assert {name for name, _ in counted_xattrs(source.fileno())} & {
            *("user.overlay.x", "user.com.apple.y"),
        } == set()
        copy_xattrs(source.fileno(), target.fileno())
        assert counted_xattrs(target.fileno())[:2] == kept


# --- copies that are brought up to date ---------------------------------------------------------------


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts, so it needs root")
def test_a_delta_that_hides_something_is_not_additive(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/file").write_text("")
    (tmp_path / "a/link").symlink_to("x")
    os.mknod(tmp_path / "a/dev", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert is_additive(str(tmp_path), userxattr=False)
    os.mknod(tmp_path / "a/b/gone", stat.S_IFCHR, 0)
    assert not is_additive(str(tmp_path), userxattr=False)
    (tmp_path / "a/b/gone").unlink()
    assert is_additive(str(tmp_path), userxattr=False)
    os.setxattr(tmp_path / "a/b", "trusted.overlay.opaque", b"y")
    assert not is_additive(str(tmp_path), userxattr=False)


def test_directories_that_a_copy_changed_are_dated(tmp_path: Path) -> None:
    for place in ("now/a/b/c", "before/a/b"):
        (tmp_path / place).mkdir(parents=True)
    for path in tmp_path.rglob("*"):
        os.utime(path, ns=(IN_NS, IN_NS))
    os.utime(tmp_path / "before/a/b", ns=(1, 1))
    with Tree.open(str(tmp_path / "now")) as now, Tree.open(str(tmp_path / "before")) as before:
        date_parents(now, before, ["a", "b", "c"])
        dated = [(tmp_path / "now" / name).stat().st_mtime_ns for name in ("a", "a/b", "a/b/c")]
        assert dated[0] == IN_NS
        assert min(dated[1:]) > IN_NS
        date_parents(now, None, ["a"])
        assert (tmp_path / "now/a").stat().st_mtime_ns > IN_NS
        date_parents(now, before, [])
