"""Content digests: what counts, what does not, and that order never does [KEY-2, KEY-12, KEY-17]."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.executor.files.tree import Tree
from pybuild.executor.trees import treehash
from pybuild.executor.trees.treehash import NotFound, tree_digest
from pybuild.executor.zygote.faults import Fault
from pybuild.model.selection import Selection
from tests.executor.filetrees import Entry, Link, Spec, build, change, needs_root


def digest(root: Path, path: str = "/", exclude: tuple[str, ...] = (), **options: object) -> str:
    wildcard = any(c in path for c in "*?[")
    values: dict[str, object] = {"wildcard": wildcard, "allow_empty": wildcard, **options}
    selection = Selection(path=path, **values)  # type: ignore[arg-type]  # pyright: ignore
    with Tree.open(str(root), exclude) as tree:
        return tree_digest(tree, selection)[0]


SPEC: Spec = {
    "a": "A",
    "dir/b": "B",
    "dir/empty/": None,
    "dir/l": Link("b"),
    "dir/sub/c": Entry("C", mode=0o600),
}


def test_equal_trees_have_equal_digests_wherever_they_lie(tmp_path: Path) -> None:
    one = build(tmp_path / "one", SPEC)
    two = build(tmp_path / "far" / "two", dict(reversed(list(SPEC.items()))))
    os.utime(two / "a", (1, 1))
    assert digest(one) == digest(two)


def relink(root: Path) -> None:
    (root / "dir/l").unlink()
    (root / "dir/l").symlink_to("c")


@pytest.mark.parametrize(
    "edit",
    [
        change(lambda r: (r / "dir/b").write_text("x"), id="bytes"),
        change(lambda r: (r / "dir/b").chmod(0o755), id="mode"),
        change(lambda r: (r / "dir/sub").chmod(0o700), id="mode of a directory"),
        change(lambda r: (r / "dir/b").rename(r / "dir/b2"), id="name"),
        change(lambda r: (r / "dir/empty").rmdir(), id="empty directory gone"),
        change(lambda r: (r / "dir/new").mkdir(), id="empty directory new"),
        change(relink, id="link target"),
        change(lambda r: os.mkfifo(r / "dir/fifo"), id="new special file"),
        change(lambda r: os.setxattr(r / "dir/b", "user.x", b"1"), id="attribute"),
        change(lambda r: os.setxattr(r / "dir", "user.x", b"1"), id="attribute of the root"),
    ],
)
def test_what_counts(tmp_path: Path, edit: Callable[[Path], object]) -> None:
    root = build(tmp_path / "t", SPEC)
    before = digest(root)
    edit(root)
    assert digest(root) != before


@pytest.mark.parametrize(
    "edit",
    [
        change(lambda r: os.utime(r / "dir/b", (5, 5)), id="mtime, E151"),
        change(lambda r: os.utime(r / "dir", (5, 5)), id="mtime of a directory"),
        change(lambda r: os.link(r / "dir/b", r / "elsewhere"), id="hard-link count"),
        change(lambda r: (r / "a").write_text("other"), id="file not selected"),
        change(lambda r: (r / "dir").chmod(0o700), id="look of the directory itself"),
        change(lambda r: (shutil.copy2(r / "dir/b", r / "n"), (r / "n").rename(r / "dir/b")),
                     id="inode"),
    ],
)  # fmt: skip
def test_what_does_not_count(tmp_path: Path, edit: Callable[[Path], object]) -> None:
    root = build(tmp_path / "t", SPEC)
    before = digest(root, "/dir")
    edit(root)
    assert digest(root, "/dir") == before


@pytest.mark.root
@needs_root
def test_owners_count_only_where_they_are_kept(tmp_path: Path) -> None:
    root = build(tmp_path / "t", SPEC)
    before = digest(root), digest(root, keep_owner=False)
    os.chown(root / "a", 5, 5)
    assert digest(root) != before[0]
    assert digest(root, keep_owner=False) == before[1]


def test_renaming_what_a_wildcard_matches_counts(tmp_path: Path) -> None:
    """KEY-17."""
    root = build(tmp_path / "t", {"x/a.c": "same"})
    before = digest(root, "/x/*.c")
    (root / "x" / "a.c").rename(root / "x" / "b.c")
    assert digest(root, "/x/*.c") != before


def test_file_and_directory_of_the_same_bytes_differ(tmp_path: Path) -> None:
    one = build(tmp_path / "one", {"x": "X"})
    two = build(tmp_path / "two", {"x/x": "X"})
    assert digest(one, "/x") != digest(two, "/x")


def test_matched_empty_directory_is_not_nothing(tmp_path: Path) -> None:
    root = build(tmp_path / "t", {"o": ""})
    before = digest(root, "/d*")
    (root / "d").mkdir()
    assert digest(root, "/d*") != before


def test_links_are_followed_to_what_is_selected_inside_the_tree(tmp_path: Path) -> None:
    root = build(tmp_path / "t", {"real/f": "F", "l": Link("/real"), "out": Link("/etc/passwd")})
    assert digest(root, "/l") == digest(root, "/real")
    with pytest.raises(NotFound):
        digest(root, "/out")


def test_parents_count_the_directories_between(tmp_path: Path) -> None:
    """CP-32."""
    root = build(tmp_path / "t", {"a/b/x.txt": "1", "a/c/y": "2", "z/": None})
    before = digest(root, "/a/**/x.txt", parents_pivot=0)
    (root / "z").chmod(0o700)
    (root / "a/c/y").write_text("other")
    assert digest(root, "/a/**/x.txt", parents_pivot=0) == before
    (root / "a/b").chmod(0o700)
    changed = digest(root, "/a/**/x.txt", parents_pivot=0)
    assert changed != before
    (root / "a/c/x.txt").write_text("deep")
    assert digest(root, "/a/**/x.txt", parents_pivot=0) != changed


def test_stars_that_cross_directories_are_covered_without_a_pivot(tmp_path: Path) -> None:
    """A selection that says ``**`` may stand for --parents: more counts rather than less."""
    root = build(tmp_path / "t", {"a/b/c/x.txt": "1"})
    before = digest(root, "/a/**/x.txt")
    (root / "a/b/c/x.txt").write_text("2")
    assert digest(root, "/a/**/x.txt") != before


def test_exclude_is_relative_to_the_selected_directory(tmp_path: Path) -> None:
    root = build(tmp_path / "t", {"s/a.md": "1", "s/k": "2", "s/d/keep": "3", "s/d/no": "4"})
    exclude = ("*.md", "d", "!d/keep")

    def now() -> str:
        with Tree.open(str(root)) as tree:
            return tree_digest(tree, Selection(path="/s", exclude=exclude))[0]

    before = now()
    for name in ("s/a.md", "s/d/no"):
        (root / name).write_text("changed")
    assert now() == before
    (root / "s/d/keep").write_text("changed")
    assert now() != before


def test_missing_path_names_what_hides_it(tmp_path: Path) -> None:
    root = build(tmp_path / "t", {"dist/app": ""})
    with pytest.raises(NotFound) as caught:
        digest(root, "/dist/app", ("dist",))
    assert (caught.value.path, caught.value.hidden) == ("/dist/app", "dist")
    with pytest.raises(NotFound) as plain:
        digest(root, "/no", ("dist",))
    assert plain.value.hidden is None


def test_malformed_pattern_is_an_error(tmp_path: Path) -> None:
    """IGN-7."""
    with pytest.raises(Fault, match="syntax error in pattern"):
        digest(build(tmp_path / "t", {"a": ""}), "/[a")


def test_entries_explain_the_digest_until_they_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(treehash, "MAX_SENT", 5)
    root = build(tmp_path / "t", {"a": "A", "dir/b": "B"})
    with Tree.open(str(root)) as tree:
        _, entries = tree_digest(tree, Selection())
    assert [path for path, _ in entries] == ["a", "dir", "dir/b"]
    for number in range(5):
        (root / f"{number}").touch()
    with Tree.open(str(root)) as tree:
        assert tree_digest(tree, Selection())[1] == []


names = st.text(st.sampled_from("ab./\n"), min_size=1, max_size=3).filter(
    lambda n: "/" not in n and n not in (".", "..")
)
trees = st.recursive(
    st.binary(max_size=3), lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12
).filter(lambda t: isinstance(t, dict))


def _write(root: Path, tree: object, backwards: bool) -> None:
    assert isinstance(tree, dict)
    root.mkdir()
    items: list[tuple[str, object]] = list(tree.items())  # pyright: ignore
    for name, value in reversed(items) if backwards else items:
        if isinstance(value, bytes):
            (root / name).write_bytes(value)
        else:
            _write(root / name, value, backwards)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(trees, trees)
def test_digests_are_equal_exactly_for_equal_trees(one: object, two: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("one", "again", "two")]
        for path, tree, backwards in zip(paths, (one, one, two), (False, True, False), strict=True):
            _write(path, tree, backwards)
        first, again, other = (digest(path) for path in paths)
    assert first == again
    assert (first == other) == (one == two)


def large_files(root: Path) -> Path:
    root.mkdir()
    for number in range(7):
        (root / f"f{number}").write_bytes(bytes([number]) * ((1 << 20) + number))
    (root / "small").write_bytes(b"s")
    os.link(root / "f3", root / "other")
    return root


def eight_processors(_pid: int) -> set[int]:
    return set(range(8))


def test_reading_large_files_by_several_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    root = large_files(tmp_path / "a")
    monkeypatch.setattr("os.sched_getaffinity", eight_processors)
    usual = digest(root)
    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert digest(root) == usual
    (root / "f5").write_bytes(bytes([9]) * ((1 << 20) + 5))
    assert digest(root) != usual


def test_of_large_files_that_change_the_first_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads read, and whoever of them is faster."""
    root = large_files(tmp_path / "a")
    times = iter(range(1000))
    usual = os.read

    def read_and_touch(fd: int, size: int) -> bytes:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        if name in ("f2", "f4", "f6"):
            os.utime(fd, ns=(0, next(times)))
        return usual(fd, size)

    monkeypatch.setattr("pybuild.executor.trees.filereading.os.read", read_and_touch)
    with pytest.raises(Fault, match='"/f2" changes while it is read'):
        digest(root)


def test_a_pattern_matches_nothing_only_in_a_directory_that_is_there(tmp_path: Path) -> None:
    root = build(tmp_path / "one", SPEC)
    assert digest(root, "/dir/empty/*") == digest(root, "/a/*")
    for pattern in ("/missing/*", "/missing/sub/*.c", "/a/b/*"):
        with pytest.raises(NotFound) as caught:
            digest(root, pattern)
        assert caught.value.above_pattern and "*" not in caught.value.path
