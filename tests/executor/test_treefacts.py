"""Facts of the tree that a copy was made of: read back as written, compared entry by entry."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pybuild.executor.files.tree import Tree
from pybuild.executor.trees.earliercopies import EarlierCopy
from pybuild.executor.trees.treefacts import TreeFacts
from pybuild.executor.trees.treehash import add_facts, tree_digest
from pybuild.executor.zygote.faults import Fault
from pybuild.model.selection import Selection
from tests.executor.filetrees import Entry, Link, Spec, build

SELECTION = Selection(path="/src", wildcard=True, keep_owner=False)
SPEC: Spec = {
    "src/": Entry(mtime=5),
    "src/a": Entry("a", mtime=1),
    "src/d/": Entry(mtime=2),
    "src/d/b": Entry("b", mtime=3),
    "src/l": Entry(Link("a"), mtime=4),
}


def facts_of(root: Path, **changes: Any) -> TreeFacts:
    facts = TreeFacts()
    with Tree.open(str(root), is_local=True) as tree:
        tree_digest(tree, SELECTION._replace(**changes), None, facts)
    return facts


def test_read_back_as_written(tmp_path: Path) -> None:
    root = build(tmp_path / "it", SPEC)
    Path(os.fsdecode(os.fsencode(root) + b"/src/\xff\n")).write_text("odd")
    facts = facts_of(root)
    data = facts.encode()
    assert TreeFacts.decode(data) == facts
    assert facts.changes_since(facts) == (set(), 0)
    for damaged in (b"", data[:-1], data[:40] + b"x" + data[41:], b"x" * 100):
        assert TreeFacts.decode(damaged) is None


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"src/a": Entry("A", mtime=1)}, {"a"}),
        ({"src/a": Entry("a", mtime=9)}, {"a"}),
        ({"src/a": Entry("a", mtime=1, mode=0o600)}, {"a"}),
        ({"src/d/": Entry(mtime=9)}, {"d"}),
        ({"src/": Entry(mtime=9)}, {""}),
        ({"src/l": Entry(Link("b"), mtime=4)}, {"l"}),
        ({"src/l": Entry("file", mtime=4)}, {"l"}),
        ({"src/d/new": Entry("n", mtime=1)}, {"d/new"}),
    ],
)
def test_what_changed_is_named(tmp_path: Path, change: Spec, paths: set[str]) -> None:
    old = facts_of(build(tmp_path / "old", SPEC))
    new = facts_of(build(tmp_path / "new", {**SPEC, **change}))
    assert new.changes_since(old) == (paths, len(paths))


@pytest.mark.parametrize(
    ("removed", "added"),
    [
        ("src/a", {}),
        ("src/a", {"src/b": "renamed"}),
        ("src/a", {"src/a/": None}),
        ("src/d/b", {}),
    ],
)
def test_what_went_cannot_be_added(tmp_path: Path, removed: str, added: Spec) -> None:
    old = facts_of(build(tmp_path / "old", SPEC))
    kept = {name: value for name, value in SPEC.items() if name != removed}
    assert facts_of(build(tmp_path / "new", {**kept, **added})).changes_since(old) is None


def test_trees_that_entries_do_not_describe_are_not_plain(tmp_path: Path) -> None:
    root = build(tmp_path / "it", SPEC)
    assert facts_of(root).plain
    assert not facts_of(root, path="/src/a").plain
    assert not facts_of(root, path="/s*").plain
    assert not facts_of(root, exclude=["a"]).plain
    assert facts_of(root, contents_only=False).plain
    os.link(root / "src/a", root / "src/twin")
    assert not facts_of(root).plain
    os.unlink(root / "src/twin")
    os.mkfifo(root / "src/pipe")
    assert stat.S_ISFIFO((root / "src/pipe").stat().st_mode)
    assert not facts_of(root).plain


def test_some_of_it_can_be_looked_at_again(tmp_path: Path) -> None:
    root = build(tmp_path / "it", SPEC)
    before = facts_of(root)
    earlier = EarlierCopy("id", {"d/b"})
    assert earlier.changed == {"", "d", "d/b"}
    assert earlier.names == {"": ["d"], "d": ["b"]}
    (root / "src/a").write_text("not looked at")
    os.utime(root / "src", (5, 5))

    def again(since_ns: int = 1 << 62) -> str | None:
        facts = TreeFacts()
        with Tree.open(str(root), is_local=True) as tree:
            add_facts(facts, tree, SELECTION, None, earlier.names, since_ns)
        return facts.differs(before, earlier.changed)

    assert again() is None
    with pytest.raises(Fault, match='"/src/d" changes while it is read'):
        again(since_ns=1)
    (root / "src/d/b").write_text("X")
    assert again() == "d/b"
    (root / "src/d/b").unlink()
    assert again() == "d"
