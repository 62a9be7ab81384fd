"""Root writes a result where somebody else may write too, who moves and exchanges things meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import Refused
from pybuild.buildkit.fsutil.writer import TreeWriter
from pybuild.image.layer import confined, treecopy
from pybuild.model.errors import UserError
from tests.harness import write


class Machine:
    """A directory in the place of the machine's root: what is in it must stay as it is.

    Attributes:
        public: a directory for everybody in it, as /tmp is one.
        shared: where the result goes; everybody may write there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        write(root, **{"etc/passwd": "machine"})
        (root / "srv").mkdir()
        self.public = root / "public"
        self.public.mkdir()
        self.public.chmod(0o1777)
        self.shared = root.parent / "shared"
        self.shared.mkdir()
        self.before = self.state()

    def state(self) -> list[object]:
        kept = [self.root, self.root / "srv", self.root / "etc", self.root / "etc/passwd"]
        looks: list[object] = [
            (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in kept[1:]
        ]
        mode = self.public.stat().st_mode
        return [*looks, mode, (self.root / "etc/passwd").read_text(), os.listdir(self.root)]

    def is_whole(self) -> bool:
        return self.state() == self.before


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "root")


def once(
    monkeypatch: pytest.MonkeyPatch, place: object, name: str, act: Callable[[], None]
) -> None:
    """Let somebody else act once, when *name* of *place* returns."""
    original = getattr(place, name)
    left = [act]

    def called(*args: object, **more: object) -> object:
        found = original(*args, **more)
        if left and _is_time(args):
            left.pop()()
        return found

    monkeypatch.setattr(place, name, called)


def _is_time(args: tuple[object, ...]) -> bool:
    return any(arg == b"last" for arg in args)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_directory_moved_away_leads_nothing_elsewhere(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, replaces: bool
) -> None:
    """Its ``..`` is somebody else's public directory then, and that one's is the root."""
    tree = write(machine.root.parent / "tree", **{"a/b/last": "x", "etc/passwd": "image"})
    out = machine.shared / "out"
    (out / "a/b").mkdir(parents=True)

    def move() -> None:
        os.rename(out / "a/b", machine.public / "b")

    once(monkeypatch, treecopy._Copy, "_file", move)  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(UserError) as caught:
        treecopy.copy_tree(str(tree), str(out), replaces=replaces)
    assert "moved away" in caught.value.message
    assert caught.value.hints
    assert machine.is_whole()


def test_a_directory_moved_away_while_it_is_removed_has_nothing_else_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``srv`` is empty at the root, so that a climb there would go on with ``etc``."""
    out = machine.shared / "out"
    write(out, **{"gone/etc/x": "", "gone/srv/q/last": ""})
    cleared = confined._clear  # pyright: ignore[reportPrivateUsage]

    def clear(fd: int) -> list[bytes]:
        names = cleared(fd)
        if names == [b"srv", b"etc"]:
            names.reverse()
        if (out / "gone/srv/q").is_dir() and not os.listdir(out / "gone/srv/q"):
            os.rename(out / "gone/srv/q", machine.public / "q")
        return names

    monkeypatch.setattr(confined, "_clear", clear)
    fd = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="moved away") as caught:
            confined.remove(fd, b"gone")
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EXDEV
    assert machine.is_whole()


def entry(path: str, mode: int) -> Stat:
    return Stat(path=path.encode(), mode=0, size=0, mtime_ns=1)


@pytest.mark.parametrize("mode", [stat.S_IFIFO | 0o666, stat.S_IFIFO | 0o4777])
def test_what_was_just_made_and_exchanged_gives_nothing_else_its_mode(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    into = TreeWriter(str(machine.shared), merge=True, own=False)
    made = os.mkfifo

    def exchange(name: bytes, *args: int, dir_fd: int) -> None:
        made(name, *args, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(machine.root / "etc/passwd", name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", exchange)
    try:
        with pytest.raises(OSError, match="another thing"):
            into.entry(0, entry("pipe", mode), mode)
    finally:
        into.close()
    assert machine.is_whole()


def test_a_file_exchanged_for_a_pipe_keeps_nobody_waiting(machine: Machine) -> None:
    into = TreeWriter(str(machine.shared), merge=True, own=False)
    (machine.shared / "file").write_text("")
    os.utime(machine.shared / "file", ns=(1, 1))
    there = os.stat(machine.shared / "file")
    os.unlink(machine.shared / "file")
    os.mkfifo(machine.shared / "file")
    mode = stat.S_IFREG | 0o777
    try:
        with pytest.raises(Refused):
            into._look(b"", b"file", entry("file", mode), mode, there)  # pyright: ignore[reportPrivateUsage]
    finally:
        into.close()
