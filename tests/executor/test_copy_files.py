"""Kinds of files under COPY: links, devices, odd names, deep trees, holes."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import Refresh
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.ops import Owner
from tests.executor.filetrees import BASE, Bench, Entry, Link, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]


def test_file_never_replaces_a_directory_but_replaces_links(bench: Bench) -> None:
    """CP-13."""
    base: Spec = {"d/f/": None, "d/l": Link("/keep"), "keep": "base"}
    bench.delta(base).context({"s/l": "new", "t/f": "x"})
    tree = bench.run(copy("/s", "/d"))
    assert (tree["/d/l"].kind, tree["/keep"].content) == ("-", b"base")
    bench.root = bench.root / "again"
    bench.root.mkdir()
    bench.upper = bench.root / "upper"
    with pytest.raises(Fault, match="^cannot replace to directory /d/f with file$"):
        bench.run(copy("/t", "/d"))


def test_directory_does_not_replace_a_link_inside_the_destination(bench: Bench) -> None:
    bench.delta({"d/sub": Link("/etc"), "etc/": None}).context({"s/sub/f": ""})
    with pytest.raises(Fault, match="^cannot copy to non-directory: /d/sub$"):
        bench.run(copy("/s", "/d"))


def test_special_files_and_hard_links_of_a_snapshot(bench: Bench, tmp_path: Path) -> None:
    """CP-23, E158."""
    bench.delta(BASE).snapshot({"s/a": "linked", "t/x": ""})
    root = tmp_path / "snap1" / "s"
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "dev", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    (root / "dev").chmod(0o620)
    (root / "sub").mkdir()
    os.link(root / "a", root / "sub" / "b")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "sock"))
        tree = bench.run(copy("/s", "/d"))
    assert (tree["/d/fifo"].kind, tree["/d/fifo"].mode) == ("p", 0o640)
    assert (tree["/d/dev"].kind, tree["/d/dev"].mode) == ("c", 0o620)
    assert (tree["/d/sock"].kind, tree["/d/sock"].content) == ("-", b"")
    assert tree["/d/a"].ino == tree["/d/sub/b"].ino
    assert tree["/d/sub/b"].content == b"linked"


def test_names_of_one_inode_belong_together_within_one_source_alone(
    bench: Bench, tmp_path: Path
) -> None:
    bench.delta(BASE).snapshot({"s/a/x": "linked", "s/b/": None})
    root = tmp_path / "snap1" / "s"
    os.link(root / "a" / "x", root / "a" / "y")
    os.link(root / "a" / "x", root / "b" / "x")
    tree = bench.run(copy("/s/*", "/d/"))
    assert tree["/d/x"].content == tree["/d/y"].content == b"linked"
    bench.root = tmp_path / "again"
    bench.root.mkdir()
    bench.upper = bench.root / "upper"
    files = bench.run(copy("/s/?/x", "/d/"), copy("/s/a", "/e"))
    assert files["/e/x"].ino == files["/e/y"].ino
    assert files["/d/x"].ino != files["/e/x"].ino


def test_single_files_never_become_names_of_one_inode(bench: Bench, tmp_path: Path) -> None:
    bench.delta(BASE).snapshot({"s/a": "linked"})
    os.link(tmp_path / "snap1" / "s" / "a", tmp_path / "snap1" / "s" / "b")
    tree = bench.run(copy("/s/?", "/d/"))
    assert tree["/d/a"].content == tree["/d/b"].content == b"linked"
    assert tree["/d/a"].ino != tree["/d/b"].ino


def test_a_path_that_no_program_could_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with Tree.open(str(tmp_path)) as tree:
        assert [name for name, _ in tree.entries(tree.fd, "d/" * 2047 + "dd")] == ["f"]
        with pytest.raises(
            Fault, match=r'^"/d/d/d.*…" is 2048 directories deep: paths of more'
        ) as at:
            tree.entries(tree.fd, "d/" * 2047 + "ddd")
    assert at.value.kind == USER


def test_directories_above_a_copy_that_is_brought_up_to_date_have_the_time_of_now(
    bench: Bench,
) -> None:
    """They look as if copied now, not by the earlier copy; directories of the base keep their time."""
    old = Entry(mtime=1_000)
    bench.delta({"a/": old})
    bench.delta({"a/b/c/f": Entry("was", mtime=2_000), "a/b/c/": old, "a/b/": old, "a/": old})
    bench.context({"s/f": Entry("is", mtime=2_000)})
    tree = bench.run(copy("/s", "/a/b/c"), refresh=Refresh({"": ["f"]}, bench.base[:1]))
    assert tree["/a/b/c/f"].content == b"is"
    assert tree["/a"].mtime_ns == 1_000 * 10**9
    assert tree["/a/b"].mtime_ns > 10**18
    scratch = Bench(bench.root / "other")
    scratch.base = bench.base[1:]
    scratch.root.mkdir()
    scratch.inputs = bench.inputs
    tree = scratch.run(copy("/s", "/a/b/c"), refresh=Refresh({"": ["f"]}, []))
    assert tree["/a"].mtime_ns > 10**18
    assert tree["/a/b"].mtime_ns > 10**18


def test_user_attributes_and_capabilities_survive(bench: Bench, tmp_path: Path) -> None:
    """CP-25."""
    bench.delta(BASE).snapshot({"f": "x"})
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        os.setxattr(tmp_path / "snap1" / "f", "security.capability", capability)
    except OSError as error:
        pytest.skip(f"the file system takes no capabilities: {error}")
    os.setxattr(tmp_path / "snap1" / "f", "user.note", b"kept")
    os.setxattr(tmp_path / "snap1" / "f", "trusted.note", b"not kept")
    tree = bench.run(copy("/f", "/g", owner=Owner(user="5")))
    assert dict(tree["/g"].xattrs) == {"security.capability": capability, "user.note": b"kept"}


def test_root_of_the_result_looks_like_the_root_of_the_base(bench: Bench) -> None:
    bench.delta(BASE, mode=0o711).context({"f": ""}).run(copy("/f", "/f"))
    assert stat.S_IMODE(bench.upper.stat().st_mode) == 0o711


def test_only_what_was_copied_is_in_the_layer(bench: Bench) -> None:
    bench.delta({"etc/a": "", "etc/b": "", "var/": None}).context({"f": ""})
    bench.run(copy("/f", "/etc/"))
    assert bench.changed() == {"/etc", "/etc/f"}


def test_names_that_are_not_utf8_and_names_with_newlines(bench: Bench, tmp_path: Path) -> None:
    bench.delta(BASE).context({"s/": None})
    names = [b"\xff\xfe", b"a\nb", b"-rf", b" "]
    for name in names:
        (tmp_path / "local1" / "s" / os.fsdecode(name)).write_bytes(name)
    tree = bench.run(copy("/s", "/d"))
    assert {p: s.content for p, s in tree.items() if p.startswith("/d/")} == {
        "/d/" + os.fsdecode(name): name for name in names
    }


@pytest.mark.slow
def test_deep_tree(bench: Bench, tmp_path: Path) -> None:
    bench.delta(BASE).context({"s/": None})
    fd = os.open(tmp_path / "local1" / "s", os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    tree = bench.run(copy("/s", "/t"))
    assert any(p.endswith("/d/leaf") for p in tree)


def test_sparse_and_large_files(bench: Bench, tmp_path: Path) -> None:
    bench.delta(BASE).context({"big": os.urandom(700_000)})
    with open(tmp_path / "local1" / "sparse", "wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
        file.truncate(5 << 20)
    tree = bench.run(copy("/", "/"))
    for name in ("big", "sparse"):
        assert tree["/" + name].content == (tmp_path / "local1" / name).read_bytes()
    assert (bench.upper / "sparse").stat().st_blocks * 512 < 1 << 20
