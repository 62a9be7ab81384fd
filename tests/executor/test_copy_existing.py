"""Files that a COPY finds in its place: the same are left alone, others replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.zygote.faults import Fault
from pybuild.model.ops import Owner
from tests.executor.filetrees import BASE, Bench, Entry, Link, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]


TIME = 1_700_000_000


OWN: Spec = {
    "d/same": Entry("S", mtime=TIME),
    "d/link": Entry(Link("same"), mtime=TIME),
    "d/deep/same": Entry("S", mtime=TIME),
}


def test_what_is_there_already_is_left_alone(bench: Bench) -> None:
    """The layer has only what is new, as the peer's; directories keep taking the source's look."""
    bench.delta({**BASE, **OWN}).snapshot({**OWN, "d/new": Entry("N", mtime=TIME)})
    tree = bench.run(copy("/d", "/d", contents_only=True))
    assert tree["/d/same"].content == b"S"
    assert bench.changed() == {"/d", "/d/deep", "/d/new"}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Entry("T", mtime=TIME), id="content"),
        pytest.param(Entry("SS", mtime=TIME), id="size"),
        pytest.param(Entry("S", mtime=TIME + 1), id="time"),
        pytest.param(Entry("S", mtime=TIME, mode=0o600), id="mode"),
        pytest.param(Entry("S", mtime=TIME, mode=0o4644), id="set-user-id"),
        pytest.param(Entry("S", mtime=TIME, uid=7), id="owner"),
        pytest.param(Entry("S", mtime=TIME, gid=7), id="group"),
        pytest.param(Entry(Link("S"), mtime=TIME), id="type"),
    ],
)
def test_whatever_differs_is_copied(bench: Bench, other: Entry) -> None:
    bench.delta({**BASE, "d/f": other}).snapshot({"d/f": Entry("S", mtime=TIME)})
    tree = bench.run(copy("/d", "/d", contents_only=True))
    found = tree["/d/f"]
    assert (found.kind, found.content, found.mode, found.uid, found.gid) == ("-", b"S", 0o644, 0, 0)
    assert found.mtime_ns == TIME * 10**9
    assert "/d/f" in bench.changed()


def test_a_directory_of_the_same_name_keeps_its_mode_and_owner(bench: Bench) -> None:
    """One below it does not, as with BuildKit; a Dockerfile copies contents, and never gets here."""
    other = Entry(mode=0o700, uid=3, gid=3, mtime=TIME)
    bench.delta({**BASE, "to/d/": Entry(mode=0o744, uid=7, gid=8), "to/d/e/": Entry(mode=0o744)})
    bench.snapshot({"d/": other, "d/e/": other, "d/f": "new"})
    tree = bench.run(copy("/d", "/to", contents_only=False))
    held, below = tree["/to/d"], tree["/to/d/e"]
    assert (held.mode, held.uid, held.gid, held.mtime_ns) == (0o744, 7, 8, TIME * 10**9)
    assert (below.mode, below.uid, below.gid) == (0o700, 3, 3)
    assert tree["/to/d/f"].content == b"new"


def test_attributes_make_a_difference(bench: Bench) -> None:
    bench.delta({**BASE, "d/f": Entry("S", mtime=TIME)}).snapshot({"d/f": Entry("S", mtime=TIME)})
    os.setxattr(bench.root / "snap1/d/f", "user.kind", b"x")
    tree = bench.run(copy("/d", "/d", contents_only=True))
    assert tree["/d/f"].xattrs == (("user.kind", b"x"),)


def test_a_time_is_compared_as_layers_have_it(bench: Bench) -> None:
    """A base that was pulled has whole seconds, the same base made here has more."""
    bench.delta({**BASE, "d/f": Entry("S", mtime=TIME)}).snapshot({"d/f": Entry("S")})
    os.utime(bench.root / "snap1/d/f", ns=(TIME * 10**9 + 5, TIME * 10**9 + 5))
    bench.run(copy("/d/f", "/d/f"))
    assert bench.changed() == set()


def test_what_chmod_and_chown_make_of_a_source_is_compared(bench: Bench) -> None:
    there = Entry("S", mtime=TIME, mode=0o600, uid=5, gid=6)
    bench.delta({**BASE, "f": there}).snapshot({"f": Entry("S", mtime=TIME)})
    bench.run(copy("/f", "/f", mode=0o600, owner=Owner(user="5", group="6")))
    assert bench.changed() == set()


@pytest.mark.parametrize("second", ["same", "other", "absent"])
def test_names_of_one_file_stay_together(bench: Bench, second: str) -> None:
    """E158: one name of the source is there already, the other is not or is another's."""
    base: dict[str, Any] = {**BASE, "d/a": Entry("S", mtime=TIME)}
    if second != "absent":
        base["d/b"] = Entry("S" if second == "same" else "T", mtime=TIME)
    bench.delta(base).snapshot({"d/a": Entry("S", mtime=TIME)})
    os.link(bench.root / "snap1/d/a", bench.root / "snap1/d/b")
    os.utime(bench.root / "snap1/d/a", (TIME, TIME))
    tree = bench.run(copy("/d", "/d", contents_only=True))
    assert tree["/d/b"].content == b"S"
    if second == "same":  # both are left as they are
        assert bench.changed() == {"/d"}
    else:
        assert tree["/d/a"].ino == tree["/d/b"].ino
        assert bench.changed() == {"/d", "/d/a", "/d/b"}


def test_what_another_source_left_alone_parts_no_names(bench: Bench) -> None:
    """E158, CP-5: a file that was what the first source has is replaced for the second."""
    base = {f"d/{name}": Entry(text, mtime=TIME) for name, text in ("aS", "bT", "zS")}
    sources = {"s1/a": Entry("S", mtime=TIME), "s2/a": Entry("T", mtime=TIME)}
    bench.delta({**BASE, **base}).snapshot(sources)
    for other in ("s1/z", "s2/b"):
        os.link(bench.root / "snap1" / other.replace(other[-1], "a"), bench.root / "snap1" / other)
    tree = bench.run(copy("/s*", "/d", contents_only=True))
    assert tree["/d/a"].content == tree["/d/b"].content == b"T"
    assert tree["/d/a"].ino == tree["/d/b"].ino


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_what_is_no_file_is_replaced_and_not_opened(bench: Bench, kind: int) -> None:
    bench.delta({**BASE, "d/": None}).snapshot({"d/f": Entry("", mtime=TIME)})
    there = Path(bench.base[0], "d/f")
    os.mknod(there, kind | 0o644, os.makedev(1, 3))
    os.utime(there, (TIME, TIME))
    tree = bench.run(copy("/d", "/d", contents_only=True))
    assert (tree["/d/f"].kind, tree["/d/f"].content) == ("-", b"")


def test_a_capability_makes_a_difference(bench: Bench) -> None:
    """CP-25: who has it and who has not are two files, whichever of them is there."""
    spec: Spec = {"d/more": Entry("S", mtime=TIME), "d/less": Entry("S", mtime=TIME)}
    bench.delta({**BASE, **spec}).snapshot(spec)
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    try:
        os.setxattr(bench.root / "snap1/d/more", "security.capability", capability)
        os.setxattr(Path(bench.base[0], "d/less"), "security.capability", capability)
    except OSError as error:
        pytest.skip(f"the file system takes no capabilities: {error}")
    tree = bench.run(copy("/d", "/d", contents_only=True))
    assert dict(tree["/d/more"].xattrs) == {"security.capability": capability}
    assert tree["/d/less"].xattrs == ()


def test_a_pattern_in_a_directory_that_is_not_there_is_a_fault(bench: Bench) -> None:
    bench.delta(BASE).snapshot({"d/": None})
    with pytest.raises(Fault, match='"/missing": not found'):
        bench.run(copy("/d/*", "/x/"), copy("/missing/*", "/x/"))


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_of_another_kind_goes_where_that_is_wanted(bench: Bench, replace: bool) -> None:
    there: Spec = {"d/dir/f": "1", "d/file": "2", "d/link": Entry(Link("dir")), "d/kept/f": "3"}
    bench.delta({**BASE, **there})
    bench.snapshot({"d/dir": "a", "d/file/x": "b", "d/link/y": "c", "d/kept/g": "d"})
    action = copy("/d", "/d", contents_only=True, replace=replace)
    if not replace:
        with pytest.raises(Fault, match="cannot (copy to non-directory|replace to directory)"):
            bench.run(action)
        return
    tree = bench.run(action)
    paths = ("/d/dir", "/d/file/x", "/d/kept/f", "/d/kept/g", "/d/link/y")
    assert [tree[path].content for path in paths] == [b"a", b"b", b"3", b"d", b"c"]
