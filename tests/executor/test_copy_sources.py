"""The files that a COPY reads: ignored ones, links, patterns [CP-3..CP-7, CP-32, CP-33]."""

from __future__ import annotations

import pytest

from pybuild.executor.zygote.faults import Fault
from tests.executor.filetrees import BASE, Bench, Entry, Link, Spec, copy, needs_root

pytestmark = [pytest.mark.root, needs_root]


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


@pytest.mark.slow
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
