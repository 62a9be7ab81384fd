"""Trees of deltas without overlay: merged, applied one by one, and compared again [IMG-13]."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pybuild.executor.trees import storeform
from pybuild.executor.zygote import procstatus
from pybuild.executor.zygote.copied import leaves, scanning
from pybuild.executor.zygote.copied.applying import apply
from pybuild.executor.zygote.copied.difference import collect
from pybuild.executor.zygote.copied.merging import merge
from pybuild.model.errors import EnvironmentFault

if TYPE_CHECKING:
    from pybuild.executor.zygote.copied.merging import Place

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def deltas(place: Path) -> list[str]:
    """Make three: what the second deletes and replaces, the third has again in other forms."""
    one, two, three = (place / name for name in ("one", "two", "three"))
    for path in (one / "d/sub", one / "o/deep", two / "d", two / "o", three / "d"):
        path.mkdir(parents=True)
    for path in (one / "d/f", one / "d/sub/x", one / "o/deep/y", one / "file", one / "gone"):
        path.write_text(path.name)
    os.link(one / "d/f", one / "d/again")
    (one / "link").symlink_to("file")
    os.mkfifo(one / "pipe", 0o640)
    for path in (two / "gone", two / "d/sub", two / "link"):
        os.mknod(path, stat.S_IFCHR, 0)
    os.setxattr(two / "o", "user.overlay.opaque", b"y")
    (two / "o/new").write_text("new")
    (two / "file").mkdir(mode=0o711)
    (two / "d").chmod(0o2750)
    (three / "gone").write_text("back")
    (three / "d/sub").symlink_to("f")
    os.setxattr(three / "gone", "user.note", b"1")
    os.chown(three / "gone", 5, 6)
    for number, path in enumerate(sorted(place.rglob("*"))):
        os.utime(path, (number, number), follow_symlinks=False)
    return [str(one), str(two), str(three)]


def look(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        said = os.readlink(path) if path.is_symlink() else ""
        if stat.S_ISREG(status.st_mode):
            said = path.read_text()
        xattrs = [] if path.is_symlink() else os.listxattr(path)
        facts = status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns
        found[str(path.relative_to(root))] = (*facts, said, *xattrs)
    return found


@pytest.mark.parametrize("place", [leaves.link, leaves.copy_real])
def test_the_top_decides(tmp_path: Path, place: Place) -> None:
    (tmp_path / "deltas").mkdir()
    lowers = deltas(tmp_path / "deltas")
    tree = tmp_path / "tree"
    tree.mkdir()
    merge(lowers, str(tree), place, userxattr=True)
    shown = look(tree)
    assert sorted(shown) == [
        *("d", "d/again", "d/f", "d/sub", "file", "gone", "o", "o/new", "pipe"),
    ]
    assert shown["gone"][1:3] == (5, 6) and shown["gone"][-1] == "user.note"
    assert stat.S_IMODE(int(str(shown["d"][0]))) == 0o755  # the third's own


def test_one_delta_more_is_the_same_as_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "deltas").mkdir()
    lowers = deltas(tmp_path / "deltas")
    for name in ("at once", "by and by"):
        (tmp_path / name).mkdir()
    merge(lowers, str(tmp_path / "at once"), leaves.copy_real, userxattr=True)
    merge(lowers[:1], str(tmp_path / "by and by"), leaves.copy_real, userxattr=True)
    for lower in lowers[1:]:
        apply(lower, str(tmp_path / "by and by"), leaves.copy_real, userxattr=True)
    assert look(tmp_path / "by and by") == look(tmp_path / "at once")


def test_the_difference_of_a_tree_makes_it_again(tmp_path: Path) -> None:
    (tmp_path / "deltas").mkdir()
    lowers = deltas(tmp_path / "deltas")
    tree, upper = tmp_path / "tree", tmp_path / "upper"
    for path in (tree, upper, tmp_path / "again"):
        path.mkdir()
    merge(lowers, str(tree), leaves.copy_real, userxattr=True)
    before = scanning.scan(str(tree))
    scanning.wait_for_the_clock()
    (tree / "gone").write_text("BACK")
    (tree / "o/new").unlink()
    (tree / "o").rmdir()
    (tree / "o").mkdir()
    (tree / "o/other").write_text("x")
    (tree / "pipe").rename(tree / "d/pipe")
    (tree / "d/f").chmod(0o600)
    wanted = look(tree)
    collect(str(tree), before, str(upper), userxattr=True)
    assert "user.overlay.opaque" in os.listxattr(upper / "o")
    assert stat.S_ISCHR((upper / "pipe").lstat().st_mode)
    assert sorted(p.name for p in (upper / "d").iterdir()) == ["f", "pipe"]
    merge([*lowers, str(upper)], str(tmp_path / "again"), leaves.copy_real, userxattr=True)
    assert look(tmp_path / "again") == wanted


def test_a_store_has_one_form_of_snapshots(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    storeform.settle(str(tmp_path), userxattr=False)
    storeform.settle(str(tmp_path), userxattr=False)
    storeform.settle(str(tmp_path), userxattr=True)  # there is none yet
    (tmp_path / "snapshots/x").mkdir()
    with pytest.raises(EnvironmentFault, match="was written with other privileges") as caught:
        storeform.settle(str(tmp_path), userxattr=False)
    assert "--root" in caught.value.hints[0]


def test_a_store_of_a_form_that_only_a_worker_knows_is_nobodys(tmp_path: Path) -> None:
    """The form is known without asking a worker where a container may be made so: it is ours, or it is not known."""
    assert not storeform.is_ours(str(tmp_path))
    storeform.settle(str(tmp_path), userxattr=os.geteuid() != 0)
    whole = os.geteuid() != 0 or (procstatus.may_administer() and procstatus.is_initial())
    assert storeform.is_ours(str(tmp_path)) == whole
    (tmp_path / storeform.NAME).unlink()
    storeform.settle(str(tmp_path), userxattr=os.geteuid() == 0)
    assert not storeform.is_ours(str(tmp_path))
    assert storeform.difference(str(tmp_path), userxattr=os.geteuid() != 0)
