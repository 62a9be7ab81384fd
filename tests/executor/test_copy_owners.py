"""Owners and modes of what a COPY makes [CP-12, CP-20..CP-22]."""

from __future__ import annotations

import pytest

from pybuild.executor.zygote.faults import Fault
from pybuild.model.ops import Owner
from tests.executor.filetrees import BASE, Bench, Entry, Link, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]


def test_created_parents_have_the_chown_owner_and_the_numeric_mode(bench: Bench) -> None:
    """E134, CP-12."""
    tree = (
        bench.delta(BASE)
        .context({"f": ""})
        .run(copy("/f", "/x/y/", owner=Owner(user="1000"), mode=0o750))
    )
    for path in ("/x", "/x/y", "/x/y/f"):
        assert (tree[path].uid, tree[path].gid, tree[path].mode) == (1000, 1000, 0o750)


def test_owner_names_come_from_the_base(bench: Bench) -> None:
    """CP-21."""
    base: Spec = {
        "etc/passwd": "root:x:0:0::/:\nweb:x:33:34::/:\n",
        "etc/group": "adm:x:4:\n",
    }
    tree = (
        bench.delta(base)
        .context({"f": ""})
        .run(
            copy("/f", "/a", owner=Owner(user="web")),
            copy("/f", "/b", owner=Owner(user="web", group="adm")),
            copy("/f", "/c", owner=Owner(user="nobody-here", group="7")),
        )
    )
    owners = {p: (tree[p].uid, tree[p].gid) for p in ("/a", "/b", "/c")}
    assert owners == {"/a": (33, 34), "/b": (33, 4), "/c": (0, 7)}


def test_passwd_that_links_out_of_the_base_is_read_inside_it(bench: Bench) -> None:
    base: Spec = {"etc/passwd": Link("/../../mine"), "mine": "web:x:7:8::/:\n"}
    tree = bench.delta(base).context({"f": ""}).run(copy("/f", "/a", owner=Owner(user="web")))
    assert (tree["/a"].uid, tree["/a"].gid) == (7, 8)


def test_owner_name_on_scratch_fails_but_not_in_a_base_without_passwd(bench: Bench) -> None:
    """E135."""
    action = copy("/f", "/", owner=Owner(user="nobody"))
    assert bench.delta({"x": ""}).context({"f": ""}).run(action)["/f"].uid == 0
    empty = Bench(bench.root / "other")
    empty.root.mkdir()
    with pytest.raises(Fault, match="^invalid user index: -1$"):
        empty.context({"f": ""}).run(action, is_scratch=True)


def test_octal_mode_applies_to_files_and_directories_not_to_links(bench: Bench) -> None:
    """E136, CP-22."""
    context: Spec = {"dir/sub/f": "", "dir/l": Link("f")}
    tree = bench.delta(BASE).context(context).run(copy("/dir", "/d", mode=0o2711))
    assert [tree[p].mode for p in ("/d", "/d/sub", "/d/sub/f")] == [0o711, 0o2711, 0o2711]
    assert tree["/d/l"].mode == 0o777


def test_symbolic_mode(bench: Bench) -> None:
    """E137."""
    tree = (
        bench.delta(BASE)
        .context({"f": Entry("", mode=0o666)})
        .run(copy("/f", "/", mode="go-w,u+x"))
    )
    assert tree["/f"].mode == 0o744


def test_existing_top_directory_keeps_its_look_and_inner_ones_take_the_source_s(
    bench: Bench,
) -> None:
    """E149, CP-15."""
    base: Spec = {
        "d/": Entry(mode=0o700, uid=5, gid=6, mtime=1111),
        "d/sub/": Entry(mode=0o700, uid=5),
        "d/sub/old": "old",
    }
    context: Spec = {
        "s/": Entry(mtime=3333),
        "s/sub/": Entry(mode=0o711, mtime=2222),
        "s/sub/new": "new",
    }
    tree = bench.delta(base).context(context).run(copy("/s", "/d"))
    top, sub = tree["/d"], tree["/d/sub"]
    assert (top.mode, top.uid, top.gid, top.mtime_ns) == (0o700, 5, 6, 3333 * 10**9)
    assert (sub.mode, sub.uid, sub.mtime_ns) == (0o711, 0, 2222 * 10**9)
    assert tree["/d/sub/old"].content == b"old"


def test_new_top_directory_is_root_s_and_inner_ones_keep_the_source_s_look(bench: Bench) -> None:
    """CP-16, CP-20."""
    source: Spec = {
        "s/": Entry(mode=0o700, uid=9),
        "s/sub/": Entry(mode=0o1777, uid=9, gid=8),
        "s/f": Entry("x", mode=0o4755, uid=7, mtime=3333),
    }
    tree = bench.delta(BASE).snapshot(source).run(copy("/s", "/d"))
    assert (tree["/d"].mode, tree["/d"].uid) == (0o755, 0)
    assert (tree["/d/sub"].mode, tree["/d/sub"].uid, tree["/d/sub"].gid) == (0o1777, 9, 8)
    assert (tree["/d/f"].mode, tree["/d/f"].uid) == (0o4755, 7)
    assert tree["/d/f"].mtime_ns == 3333 * 10**9


def test_local_files_belong_to_root(bench: Bench) -> None:
    tree = bench.delta(BASE).context({"s/f": Entry("", uid=1000, gid=1000)}).run(copy("/s", "/d"))
    assert (tree["/d/f"].uid, tree["/d/f"].gid) == (0, 0)
