"""COPY's semantics on real trees: specification section 10, examples E120 to E159."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import Refresh
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.model.ops import Copy, Owner
from tests.executor.filetrees import Bench, Entry, Link, Spec, needs_root

pytestmark = [pytest.mark.root, needs_root]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def copy(source: str, dest: str, **options: object) -> Copy:
    wildcard = any(c in source for c in "*?[\\")
    values: dict[str, object] = {"wildcard": wildcard, "allow_empty": wildcard, **options}
    return Copy(input=1, source=source, dest=dest, **values)  # type: ignore[arg-type]  # pyright: ignore


BASE: Spec = {"etc/": None, "keep": "base"}


@pytest.mark.parametrize(
    ("context", "base", "sources", "dest", "expected"),
    [
        pytest.param({"f": "F"}, {}, ["/f"], "/d", {"/d": b"F"}, id="E120"),
        pytest.param({"f": "F"}, {}, ["/f"], "/d/", {"/d/f": b"F"}, id="E121"),
        pytest.param({"f": "F"}, {"d/": None}, ["/f"], "/d", {"/d/f": b"F"}, id="E122"),
        pytest.param(
            {"dir/a": "A", "dir/b/c": "C"},
            {},
            ["/dir"],
            "/d",
            {"/d/a": b"A", "/d/b/c": b"C"},
            id="E123",
        ),
        pytest.param(
            {"dir/a": "A", "file": "F"},
            {},
            ["/dir", "/file"],
            "/d",
            {"/d/a": b"A", "/d/file": b"F"},
            id="E124",
        ),
        pytest.param({"a": "A"}, {}, ["/*.nope"], "/d/", {}, id="E125"),
        pytest.param({"a": "A"}, {}, ["/a", "/nop[e]"], "/d/", {"/d/a": b"A"}, id="E127"),
        pytest.param({"x": "X"}, {}, ["/../x"], "/d", {"/d": b"X"}, id="E128"),
        pytest.param({"t": "T", "link": Link("t")}, {}, ["/link"], "/d", {"/d": b"T"}, id="E130"),
        pytest.param(
            {"f": "F"},
            {"l": Link("/real"), "real/": None},
            ["/f"],
            "/l/",
            {"/real/f": b"F"},
            id="E132",
        ),
        pytest.param({"a": "A", "b": "B"}, {}, ["/a", "/b"], "/d", {"/d": b"B"}, id="E159"),
        pytest.param(
            {"f": "F"},
            {"l": Link("/no/where")},
            ["/f"],
            "/l",
            {"/no/where": b"F"},
            id="CP-14-dangling",
        ),
        pytest.param(
            {"f": "F"},
            {"l": Link("../../../up")},
            ["/f"],
            "/l",
            {"/up": b"F"},
            id="CP-14-climbing",
        ),
        pytest.param(
            {"x/1.c": "1", "x/2.c": "2", "x/3.h": "3"},
            {},
            ["/x/*.c"],
            "/d/",
            {"/d/1.c": b"1", "/d/2.c": b"2"},
            id="CP-3",
        ),
        pytest.param({"a[b": "X"}, {}, ["/a\\[b"], "/d/", {"/d/a[b": b"X"}, id="CP-3-escape"),
        pytest.param(
            {"d1/a": "1", "d2/a": "2", "d2/b": "3"},
            {},
            ["/d*"],
            "/x/",
            {"/x/a": b"2", "/x/b": b"3"},
            id="CP-5-merge",
        ),
    ],
)
def test_files_end_up_where_the_specification_says(
    bench: Bench,
    context: Spec,
    base: Spec,
    sources: list[str],
    dest: str,
    expected: dict[str, bytes],
) -> None:
    tree = bench.delta({**BASE, **base}).context(context).run(*(copy(s, dest) for s in sources))
    files = {p: s.content for p, s in tree.items() if s.kind == "-" and p != "/keep"}
    assert files == expected
    assert not any(p.startswith("/d") for p in tree) or expected


def test_copying_a_file_before_a_directory_to_a_new_name_fails(bench: Bench) -> None:
    """E124, the other way round."""
    bench.delta(BASE).context({"dir/a": "A", "file": "F"})
    with pytest.raises(Fault, match="^cannot copy to non-directory: /d$"):
        bench.run(copy("/file", "/d"), copy("/dir", "/d"))


def test_missing_literal_source_fails(bench: Bench) -> None:
    """E126."""
    with pytest.raises(Fault, match='^"/nope": not found$') as caught:
        bench.delta(BASE).context({"a": ""}).run(copy("/nope", "/d/"))
    assert caught.value.kind == "moved"


def test_whole_context_without_ignored_files(bench: Bench) -> None:
    """E129, E204, CP-7: a hidden directory is there for the sake of what is not hidden in it."""
    spec: Spec = {".dockerignore": "x", "a.md": "", "b": "", "dir/keep": "", "dir/no": ""}
    bench.delta(BASE).context({**spec, "gone/x": ""}, exclude=["*.md", "dir", "!dir/keep", "gone"])
    tree = bench.run(copy("/", "/w/"))
    assert {p for p in tree if p.startswith("/w/")} == {
        "/w/.dockerignore",
        "/w/b",
        "/w/dir",
        "/w/dir/keep",
    }


def test_ignored_source_does_not_exist(bench: Bench) -> None:
    bench.delta(BASE).context({"dist/app": "", "l": Link("dist/app")}, exclude=["dist"])
    for source in ("/dist/app", "/dist", "/l"):
        with pytest.raises(Fault, match="not found"):
            bench.run(copy(source, "/d/"))
        bench.root = bench.root / "again"
        bench.root.mkdir()
        bench.upper = bench.root / "upper"


def test_links_inside_a_directory_stay_links(bench: Bench) -> None:
    """E131."""
    tree = bench.delta(BASE).context({"dir/l": Link("/etc/passwd")}).run(copy("/dir", "/d"))
    assert (tree["/d/l"].kind, tree["/d/l"].content) == ("l", b"/etc/passwd")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../etc/passwd", "dir/../../x"])
def test_source_links_cannot_leave_the_source(bench: Bench, target: str) -> None:
    """CP-6, CTX-4: in every position."""
    bench.delta(BASE).context({"l": Link(target), "up": Link("/../.."), "dir/l": Link("../..")})
    for index, source in enumerate(["/l", "/up/etc/passwd", "/dir/l/etc/passwd", "/*/../l"]):
        bench.root = bench.root / str(index)
        bench.root.mkdir()
        bench.upper = bench.root / "upper"
        try:
            tree = bench.run(copy(source, "/d/"))
        except Fault as fault:
            assert "not found" in fault.message
        else:
            assert not any(s.content.startswith(b"root:") for s in tree.values())


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


def test_parents_keep_the_path(bench: Bench) -> None:
    """E139, E140, CP-32."""
    context: Spec = {
        "a/": Entry(mode=0o700, mtime=1000),
        "a/b/x.txt": "1",
        "a/b/no": "2",
        "a/c/d/x.txt": "3",
        "e/": None,
    }
    tree = (
        bench.delta(BASE)
        .context(context)
        .run(
            copy("/a/**/x.txt", "/d/", parents_pivot=0),
            copy("/a/b/no", "/p/", parents_pivot=1),
            copy("/q*", "/empty/", parents_pivot=0),
        )
    )
    below = {p for p in tree if p.startswith(("/d", "/p", "/empty"))}
    assert below == {
        "/d", "/d/a", "/d/a/b", "/d/a/b/x.txt", "/d/a/c", "/d/a/c/d", "/d/a/c/d/x.txt",
        "/p", "/p/b", "/p/b/no", "/empty",
    }  # fmt: skip
    assert tree["/d/a"].mode == 0o700
    assert tree["/d/a"].mtime_ns == 1000 * 10**9


def test_parents_of_a_missing_literal_fail(bench: Bench) -> None:
    with pytest.raises(Fault, match='"/a/nope": not found'):
        bench.delta(BASE).context({"a/b": ""}).run(copy("/a/nope", "/d/", parents_pivot=0))


def test_exclude_patterns_with_an_exception(bench: Bench) -> None:
    """E141, CP-33: relative to each copied source; a file that is one itself is always copied."""
    context: Spec = {"s/a.md": "", "s/keep.md": "", "s/sub/b.md": "", "s/x": "", "s/dir/deep": ""}
    tree = (
        bench.delta(BASE)
        .context(context)
        .run(
            copy("/s", "/d", exclude=("*.md", "!keep.md", "dir", "!dir/deep")),
            copy("/s/*", "/e/", exclude=("*.md", "deep")),
        )
    )
    assert {p for p in tree if p[:3] in ("/d/", "/e/")} == {
        "/d/keep.md", "/d/sub", "/d/sub/b.md", "/d/x", "/d/dir", "/d/dir/deep",
        "/e/a.md", "/e/keep.md", "/e/x",
    }  # fmt: skip


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
    """That they come from an earlier copy must not show; those of the base keep their time."""
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


# --- what is there already ------------------------------------------------------------------------

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
