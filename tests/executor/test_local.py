"""Directories of the client: digests by way of the stat index, and the errors people see."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.executor.files.tree import Tree
from pybuild.executor.trees import statindex
from pybuild.executor.trees.contextscan import scan_signature
from pybuild.executor.trees.local import LocalDigester
from pybuild.executor.trees.seen import Seen
from pybuild.executor.trees.statindex import COARSE_TICK_NS, TICK_NS, StatIndex
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree
from tests.executor.filetrees import Link, Spec, build

SPEC: Spec = {"a": "A", "dir/b": "B"}
LATER_NS = 10_000_000_000


class HandClock:
    """Stands at the newest change time of a tree, plus what a test adds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.add_ns = LATER_NS

    def __call__(self) -> int:
        newest = max(os.lstat(p).st_ctime_ns for p in [self._root, *self._root.rglob("*")])
        return newest + self.add_ns


def digester(tmp_path: Path, clock: Callable[[], int]) -> LocalDigester:
    return LocalDigester(str(tmp_path / "statindex"), clock)


def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of files that are opened for reading below a directory descriptor."""
    seen: list[str] = []
    real = os.open

    def spy(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and not flags & (os.O_DIRECTORY | os.O_PATH):
            seen.append(path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", spy)
    return seen


def test_known_files_are_not_read_again_by_the_next_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path / "ctx", SPEC)
    clock = HandClock(root)
    first = digester(tmp_path, clock)
    before = first.digest(LocalTree(str(root)), Selection())
    first.save()
    read = opens(monkeypatch)
    assert digester(tmp_path, clock).digest(LocalTree(str(root)), Selection()) == before
    assert read == []
    (root / "a").write_text("changed")
    changed = digester(tmp_path, clock).digest(LocalTree(str(root)), Selection())
    assert changed != before
    assert read.count("a") == 1
    assert "b" not in read


@pytest.mark.parametrize(("age_ns", "is_remembered"), [(0, False), (TICK_NS * 2, True)])
def test_file_changed_within_a_clock_tick_of_reading_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, is_remembered: bool
) -> None:
    """An edit in the same tick leaves size and times alone: such a file is never trusted."""
    root = build(tmp_path / "ctx", {"a": "A"})
    while not (root / "a").stat().st_ctime_ns % 1_000_000_000:
        (root / "a").touch()
    clock = HandClock(root)
    clock.add_ns = age_ns
    index = digester(tmp_path, clock)
    index.digest(LocalTree(str(root)), Selection())
    read = opens(monkeypatch)
    index.digest(LocalTree(str(root)), Selection())
    assert (read == []) is is_remembered


def test_whole_second_stamps_need_a_longer_wait(tmp_path: Path) -> None:
    class Whole:
        st_dev, st_ino, st_size, st_mode = 1, 2, 3, 0o100644
        st_mtime_ns = st_ctime_ns = 1_700_000_000 * 10**9

    for wait, kept in ((TICK_NS * 2, None), (COARSE_TICK_NS + 1, b"d" * 32)):
        now = Whole.st_ctime_ns + wait
        index = StatIndex(str(tmp_path / "index"), lambda now=now: now)  # type: ignore[misc]
        index.put(Whole, b"d" * 32)  # type: ignore[arg-type]  # pyright: ignore
        assert index.get(Whole) == kept  # type: ignore[arg-type]  # pyright: ignore


def test_same_size_and_mtime_do_not_hide_an_edit(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": "one"})
    index = digester(tmp_path, HandClock(root))
    before = index.digest(LocalTree(str(root)), Selection())
    times = (root / "a").stat()
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert index.digest(LocalTree(str(root)), Selection()) != before


@pytest.mark.parametrize("kind", ["", ".files"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_damaged_index_only_costs_time(tmp_path: Path, damage: str, kind: str) -> None:
    root = build(tmp_path / "ctx", SPEC)
    clock = HandClock(root)
    first = digester(tmp_path, clock)
    before = first.digest(LocalTree(str(root)), Selection())
    first.save()
    path = _index(tmp_path, kind)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[-40] ^= 1
    else:
        data = bytearray(b"SQLite format 3")
    path.write_bytes(data)
    again = digester(tmp_path, clock)
    assert again.digest(LocalTree(str(root)), Selection()) == before


def test_index_stays_sorted_whatever_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statindex, "MOST_NEW", 7)
    rng = random.Random(4711)
    path = str(tmp_path / "index")
    put: dict[int, os.stat_result] = {}
    for _ in range(4):
        index = StatIndex(path, lambda: 10**18)
        for number in rng.sample(range(1, 200), 40):
            put[number] = _status(number, size=rng.randrange(1000))
            index.put(put[number], _body(put[number]))
        for _ in range(2):
            assert all(index.get(status) == _body(status) for status in put.values())
            assert index.get(_status(500, size=0)) is None
            assert index.get(_status(next(iter(put)), size=5000)) is None
            index.save()
            index = StatIndex(path, lambda: 10**18)


def _status(number: int, *, size: int) -> os.stat_result:
    times = {"st_atime_ns": 1, "st_mtime_ns": 1, "st_ctime_ns": 1}
    return os.stat_result((0o100644, number, number % 3, 1, 0, 0, size, 0, 0, 0), times)


def _body(status: os.stat_result) -> bytes:
    return (b"%d %d" % (status.st_ino, status.st_size)).ljust(32)


def test_index_forgets_what_is_long_gone(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": "", "b": "x"})
    clock = HandClock(root)
    sizes: list[int] = []
    for number in range(20):
        if number == 1:
            (root / "b").unlink()
        (root / "a").write_text(str(number))
        index = digester(tmp_path, clock)
        index.digest(LocalTree(str(root)), Selection())
        index.save()
        path = _index(tmp_path)
        sizes.append(path.stat().st_size)
    assert sizes[-1] < sizes[0]


def _index(place: Path, kind: str = "") -> Path:
    (path,) = [p for p in (place / "statindex").iterdir() if p.suffix == kind]
    return path


class Counted:
    """Counts the files that are looked up one by one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        get = StatIndex.get

        def counting(index: StatIndex, status: os.stat_result) -> bytes | None:
            self.count += 1
            return get(index, status)

        monkeypatch.setattr(StatIndex, "get", counting)


def test_files_of_unchanged_directories_are_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path / "ctx", {f"d{n % 3}/f{n}": str(n) for n in range(30)} | {"l": Link("x")})
    clock = HandClock(root)
    first = digester(tmp_path, clock)
    before = first.digest(LocalTree(str(root)), Selection(keep_owner=False))
    first.save()
    counted = Counted(monkeypatch)
    again = digester(tmp_path, clock)
    assert again.digest(LocalTree(str(root)), Selection(keep_owner=False)) == before
    assert counted.count == 0
    (root / "d1/f1").write_text("X")
    after = again.digest(LocalTree(str(root)), Selection(keep_owner=False))
    assert counted.count == 10
    assert {path for path, _ in set(before.entries) ^ set(after.entries)} == {"d1/f1"}
    # How they look depends on how they are looked at.
    owned = again.digest(LocalTree(str(root)), Selection())
    assert owned == digester(tmp_path / "other", clock).digest(LocalTree(str(root)), Selection())
    git = LocalTree(str(root), git_modes=True)
    (root / "d0/f0").chmod(0o600)
    assert again.digest(git, Selection()) == owned
    assert again.digest(LocalTree(str(root)), Selection()) != owned


def test_young_files_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may change once more in the tick of the clock in which it was changed."""
    root = build(tmp_path / "ctx", {"old/a": "a", "young/b": "b"})
    newest = max(p.lstat().st_ctime_ns for p in root.rglob("*"))
    for age, count in ((TICK_NS // 2, 2), (COARSE_TICK_NS * 2, 0)):
        place = tmp_path / str(count)

        def clock(age: int = age) -> int:
            return newest + age

        first = digester(place, clock)
        before = first.digest(LocalTree(str(root)), Selection())
        first.save()
        counted = Counted(monkeypatch)
        again = digester(place, clock)
        assert again.digest(LocalTree(str(root)), Selection()) == before
        assert counted.count == count


def test_hidden_files_do_not_stand_for_others(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": "a", "b": "b"})
    clock = HandClock(root)
    index = digester(tmp_path, clock)
    trees = [LocalTree(str(root), exclude) for exclude in ((), ("a",), ("b",), ())]
    found = [index.digest(tree, Selection()).digest for tree in trees]
    assert found[0] == found[3]
    assert len(set(found)) == 3


def test_error_names_the_ignore_line(tmp_path: Path) -> None:
    """CP-4, and STYLE's example of a good error."""
    root = build(tmp_path / "ctx", {"dist/app": "", ".dockerignore": "# no\n\n./dist/\n*.md\n"})
    tree = LocalTree(str(root), ("dist", "*.md"))
    with pytest.raises(UserError) as caught:
        digester(tmp_path, HandClock(root)).digest(tree, Selection(path="/dist/app"))
    assert caught.value.message == (
        '"dist/app" is excluded from the context by .dockerignore line 3 ("dist")'
    )
    assert caught.value.hints == ('take that line out, or add "!dist/app" below it',)
    assert caught.value.peer == (
        "failed to compute cache key: failed to calculate checksum of ref "
        f'{root}: "/dist/app": not found'
    )


def test_error_for_a_pattern_below_an_ignored_directory_names_the_line(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"dist/app.js": "", ".dockerignore": "dist\n"})
    with pytest.raises(UserError) as caught:
        digester(tmp_path, HandClock(root)).digest(
            LocalTree(str(root), ("dist",)), Selection(path="/dist/*.js", wildcard=True)
        )
    assert caught.value.message == (
        '"dist" is excluded from the context by .dockerignore line 1 ("dist")'
    )
    assert caught.value.hints == ('take that line out, or add "!dist" below it',)
    assert caught.value.peer == "lstat /dist: no such file or directory"


def test_error_for_a_missing_file_has_no_ignore_hint(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": ""})
    with pytest.raises(UserError, match='"nope" is not in the context$') as caught:
        digester(tmp_path, HandClock(root)).digest(LocalTree(str(root)), Selection(path="/nope"))
    assert caught.value.hints == ("the context has a",)


def test_error_for_a_broken_link_says_where_it_leads(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a{b}": Link("{}/{c}")})
    with pytest.raises(UserError) as caught:
        digester(tmp_path, HandClock(root)).digest(LocalTree(str(root)), Selection(path="/a{b}/d"))
    assert caught.value.hints == (
        "a{b} is a link to {}/{c}, which is not in the context: copy what it leads to",
    )


def test_links_in_a_circle_are_the_user_s_error(tmp_path: Path) -> None:
    root = build(tmp_path / "ctx", {"a": Link("b"), "b": Link("a")})
    with pytest.raises(UserError, match="too many levels of symbolic links: /[ab]$"):
        digester(tmp_path, HandClock(root)).digest(LocalTree(str(root)), Selection(path="/a"))


def test_missing_context_directory_is_a_fault_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no such file or directory"):
        digester(tmp_path, HandClock(tmp_path)).digest(LocalTree(str(tmp_path / "no")), Selection())


def test_file_that_never_stands_still_is_taken_as_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path / "ctx", {"log": "x"})
    real = os.read

    def grow(fd: int, size: int) -> bytes:
        data = real(fd, size)
        if data:
            with open(root / "log", "ab") as file:
                file.write(b"y")
        return data[:1]

    monkeypatch.setattr(os, "read", grow)
    seen = Seen()
    digester(tmp_path, HandClock(root)).digest(LocalTree(str(root)), Selection(), seen=seen)
    assert seen.moved == "log"


def test_directory_swapped_for_a_link_while_reading_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan has seen a directory; before it is opened somebody puts a link there."""
    root = build(tmp_path / "ctx", {"dir/a": "A"})
    build(tmp_path / "outside", {"secret": "S"})
    real = Tree.entries

    def swap(self: Tree, fd: int, path: str, *, first_only: bool = False) -> object:
        found = real(self, fd, path, first_only=first_only)
        if path == "" and (root / "dir").is_dir() and not (root / "dir").is_symlink():
            (root / "dir").rename(root / "was")
            (root / "dir").symlink_to(tmp_path / "outside")
        return found

    monkeypatch.setattr(Tree, "entries", swap)
    seen = Seen()
    found = digester(tmp_path, HandClock(root)).digest(LocalTree(str(root)), Selection(), seen=seen)
    assert seen.moved == "dir"
    assert [path for path, _ in found.entries if path] == []


@pytest.mark.parametrize(
    ("path", "exclude", "read"),
    [
        ("/app/src", (), {"app/src", "app/src/d"}),
        ("/app/*.c", (), {"app"}),
        ("/", ("others", "app/src/d"), {"", "app", "app/src"}),
        ("/", ("*", "!app/src"), {"", "app", "app/src", "app/src/d"}),
    ],
)
def test_no_directory_is_listed_but_those_that_are_selected(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    exclude: tuple[str, ...],
    read: set[str],
) -> None:
    """[CTX-2] A COPY of a little costs a little, however large the context is."""
    spec: Spec = {"app/src/a.c": "A", "app/src/d/b.c": "B", "app/m.c": "M", "others/deep/x": "X"}
    root = build(tmp_path / "context", spec)
    listed: set[str] = set()
    scandir = os.scandir

    def spy(where: int | str) -> object:
        real = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else where
        listed.add(os.path.relpath(real, root).removeprefix("."))
        return scandir(where)

    monkeypatch.setattr(os, "scandir", spy)
    tree = LocalTree(str(root), exclude)
    selection = Selection(path=path, wildcard="*" in path)
    digester(tmp_path, lambda: LATER_NS).digest(tree, selection)
    assert listed == read
    listed.clear()
    scan_signature(str(root), [path.partition("*")[0].rstrip("/")], exclude)
    assert listed <= read | {"app/src", "app/src/d"}
