"""Contexts that change while they are copied: an error or the one state or the other, never a leak."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from pybuild.executor.files import content, copying
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import Fault
from pybuild.model.ops import Copy, Mkdir, Mkfile, Owner, Rm, Symlink
from tests.executor.filetrees import Bench, Link, Spec, build, needs_root

pytestmark = [pytest.mark.root, needs_root]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path).delta({"etc/": None})


def test_file_that_grows_while_it_is_copied_is_an_error(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.context({"f": "x" * 100})
    real = content.copy_content

    def grow(source: int, target: int, status: os.stat_result) -> int:
        copied = real(source, target, status)
        with (tmp_path / "local1" / "f").open("a") as file:
            file.write("more")
        return copied

    monkeypatch.setattr(copying, "copy_content", grow)
    with pytest.raises(Fault, match='^"/f" changes while it is read$'):
        bench.run(Copy(input=1, source="/", dest="/"))


def test_links_that_come_and_go_change_no_file_of_a_snapshot(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without mounts, trees of other steps have hard links to the same file."""
    bench.snapshot({"f": "x" * 100})
    real = content.copy_content

    def link(source: int, target: int, status: os.stat_result) -> int:
        os.link(tmp_path / "snap1" / "f", tmp_path / "other")
        return real(source, target, status)

    monkeypatch.setattr(copying, "copy_content", link)
    assert bench.run(Copy(input=1, source="/", dest="/"))["/f"].content == b"x" * 100


@pytest.mark.parametrize("victim", ["dir", "dir/f"])
def test_entry_swapped_for_a_link_between_scan_and_open_is_not_followed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    outside = build(tmp_path / "outside", {"f": "host secret"})
    bench.context({"dir/f": "mine"})
    path = tmp_path / "local1" / victim
    real = Tree.entries

    def swap(
        self: Tree, fd: int, where: str, *, first_only: bool = False
    ) -> list[tuple[str, os.stat_result]]:
        found = real(self, fd, where, first_only=first_only)
        if where == os.path.dirname(victim) and not path.is_symlink():
            path.rename(tmp_path / "was")
            path.symlink_to(outside if victim == "dir" else outside / "f")
        return found

    monkeypatch.setattr(Tree, "entries", swap)
    with pytest.raises(Fault, match="changes while it is read"):
        bench.run(Copy(input=1, source="/", dest="/c"))


@pytest.mark.slow
def test_directory_and_link_that_trade_places_all_the_time_leak_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    build(tmp_path / "outside", {"f": "host secret"})
    spec: Spec = {"d/f": "mine", "l": Link(str(tmp_path / "outside"))}
    bench.context(spec)
    root = tmp_path / "local1"

    def trade() -> None:
        fd = os.open(root, os.O_RDONLY)
        while True:
            for old, new in (("d", "t"), ("l", "d"), ("d", "l"), ("t", "d")):
                os.rename(old, new, src_dir_fd=fd, dst_dir_fd=fd)

    def begin() -> None:
        threading.Thread(target=trade, daemon=True).start()

    for number in range(40):
        shutil.rmtree(root)
        build(root, spec)
        bench.root = tmp_path / str(number)
        bench.root.mkdir(exist_ok=True)
        bench.upper = bench.root / "upper"
        try:
            tree = bench.run(Copy(input=1, source="/d", dest="/c"), before=begin)
        except Fault as fault:
            assert "changes" in fault.message or "not found" in fault.message
            tree = {}
        assert not any(s.content == b"host secret" for s in tree.values())


def test_edits_stay_inside_whatever_the_links_say(bench: Bench, tmp_path: Path) -> None:
    outside = build(tmp_path / "outside", {"f": "host", "d/": None})
    bench.delta(
        {"out": Link(str(outside)), "up": Link("../../../../.."), "gone/x": "", "l": Link("gone")}
    )
    tree = bench.run(
        Mkfile(path="/out/f", data=b"inside"),
        Mkdir(path=f"/up{outside}/d/new"),
        Symlink(path="/out/link", target="/anywhere"),
        Rm(path="/out/nope", allow_not_found=True),
        Rm(path="/l"),
        Rm(path="/g*", wildcard=True),
    )
    assert tree[f"{outside}/f"].content == b"inside"
    assert tree[f"{outside}/d/new"].kind == "d"
    assert tree[f"{outside}/link"].content == b"/anywhere"
    assert "/gone" not in tree
    assert "/l" not in tree
    assert (outside / "f").read_text() == "host"
    assert sorted(os.listdir(outside)) == ["d", "f"]
    assert os.listdir(outside / "d") == []


def test_a_file_that_is_written_again_keeps_its_mode_and_owner(bench: Bench) -> None:
    bench.delta({"f": "old", "l": Link("f"), "there/": None, "to": Link("there/new")})
    tree = bench.run(
        Mkfile(path="/mine", data=b"1", mode=0o751, owner=Owner(user="7", group="8")),
        Mkfile(path="/mine", data=b"2", mode=0o600),
        Mkfile(path="/l", data=b"new", mode=0o600, make_parents=False),
        Mkfile(path="/to", data=b"made", mode=0o600, make_parents=False),
    )
    mine = tree["/mine"]
    assert (mine.content, mine.mode & 0o7777, mine.uid, mine.gid) == (b"2", 0o751, 7, 8)
    assert (tree["/f"].content, tree["/f"].mode & 0o7777) == (b"new", 0o644)
    assert tree["/there/new"].content == b"made"


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Rm(path="/nope"), "remove /nope: no such file or directory"),
        (Rm(path="/"), "cannot remove the root of a file tree"),
        (Rm(path="/etc/.."), "cannot remove the root of a file tree"),
        (Mkdir(path="/file/x"), "mkdir /file/x: not a directory: /file"),
        (Mkdir(path="/file"), "mkdir /file: not a directory: /file"),
        (Mkdir(path="/a/b", make_parents=False), "mkdir /a/b: /a does not exist"),
        (Mkfile(path="/etc", data=b""), "cannot replace to directory /etc with file"),
        (Mkfile(path="/loop/x", data=b""), "too many levels"),
        (Mkfile(path="/far", data=b"", make_parents=False), "/far: no such file or directory: /no"),
        (Rm(path="/file/x", allow_not_found=True), "remove /file/x: not a directory"),
        (Symlink(path="/file", target="x"), "symlink x /file: file exists"),
        (Symlink(path="/no/l", target="x"), "/no/l: no such file or directory: /no"),
    ],
)
def test_edits_that_cannot_be(bench: Bench, action: Mkdir, message: str) -> None:
    bench.delta({"file": "", "loop": Link("loop"), "far": Link("no/where")})
    with pytest.raises(Fault) as caught:
        bench.run(action)
    assert message in str(caught.value)
