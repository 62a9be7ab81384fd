"""Trees in directories: opened, written and walked."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import gomode
from pybuild.buildkit.fsutil.followed import followed
from pybuild.buildkit.fsutil.opendirs import OpenDirs
from pybuild.buildkit.fsutil.packet import (
    Stat,
)
from pybuild.buildkit.fsutil.receiver import BadEntry, Receiver
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.buildkit.fsutil.writer import TreeWriter
from tests.buildkit.fsentries import DIR, FILE
from tests.descriptors import none_left_open

# --- directories ----------------------------------------------------------------------------------


def test_directories_stay_open_until_they_are_forgotten(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    (tmp_path / "f").touch()
    (tmp_path / "l").symlink_to("a")
    dirs = OpenDirs(str(tmp_path))
    try:
        assert os.path.samestat(os.fstat(dirs.get(b"")), os.stat(tmp_path))
        fds = {path: dirs.get(path) for path in (b"a", b"a/b", b"ab")}
        assert {path: dirs.get(path) for path in fds} == fds
        for path in (b"f", b"l", b"l/b"):
            with pytest.raises(BadEntry, match="is a directory no more"):
                dirs.get(path)
        with pytest.raises(FileNotFoundError):
            dirs.get(b"none")
        dirs.forget(b"a")
        for path in (b"a", b"a/b"):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fds[path])
        os.fstat(fds[b"ab"])
    finally:
        dirs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[b"ab"])
    dirs.close()


def test_the_directory_that_was_not_needed_longest_is_closed(tmp_path: Path) -> None:
    names = [b"%03d" % number for number in range(65)]
    for name in names:
        (tmp_path / name.decode()).mkdir()
    dirs = OpenDirs(str(tmp_path))
    try:
        fds = [dirs.get(name) for name in names[:64]]
        dirs.get(names[0])
        dirs.get(names[64])
        os.fstat(fds[0])
        os.fstat(fds[2])
        assert dirs.get(names[0]) == fds[0]
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fds[1])
    finally:
        dirs.close()


def test_links_are_followed_inside_the_root_alone(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/f").touch()
    (tmp_path / "d/*").touch()
    for name, target in (("up", "../../../d/f"), ("abs", "/d/./e"), ("star", "d/*"), ("two", "up")):
        (tmp_path / name).symlink_to(target)
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for paths, expected in (
            (["up"], ["d/f", "up"]),
            (["two"], ["d/f", "two", "up"]),
            (["abs/x"], ["abs", "d/e/x"]),
            (["star"], ["d/\\*", "star"]),
            (["d/*"], ["d/\\*", "d/e", "d/f"]),
            (["d/e/../f"], ["d/f"]),
            (["none/*", "./d//f/"], ["d/f"]),
            (["/"], [""]),
            ([], []),
        ):
            assert followed(root, paths) == expected
    finally:
        os.close(root)


# --- the writer -----------------------------------------------------------------------------------


def sent_to(root: Path, *entries: Stat, content: bytes = b"x", **options: bool) -> TreeWriter:
    writer = TreeWriter(str(root), **options)  # type: ignore[arg-type]
    try:
        sender = Sender(entries, lambda path: io.BytesIO(content))
        receiver = Receiver(writer)
        while not (receiver.finished and sender.finished):
            sender.feed(receiver.feed(sender.produce()))
        writer.finish()
    finally:
        writer.close()
    return writer


def test_what_was_not_sent_goes_unless_trees_are_merged(tmp_path: Path) -> None:
    for name in ("old", "d"):
        (tmp_path / name).mkdir()
    (tmp_path / "d/old").touch()
    entries = (Stat(path=b"d", mode=DIR), Stat(path=b"d/f", mode=FILE, size=1, mtime_ns=1))
    writer = sent_to(tmp_path, *entries, merge=True)
    assert (writer.written, writer.removed) == (1, 0)
    assert sorted(os.listdir(tmp_path / "d")) == ["f", "old"] and (tmp_path / "old").is_dir()
    writer = sent_to(tmp_path, *entries)
    assert (writer.written, writer.removed) == (0, 2)
    assert os.listdir(tmp_path) == ["d"] and os.listdir(tmp_path / "d") == ["f"]


def test_a_directory_in_the_way_of_a_merge_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d/f").mkdir(parents=True)
    entries = (Stat(path=b"d", mode=DIR), Stat(path=b"d/f", mode=FILE, size=1))
    with pytest.raises(BadEntry, match="'d/f', but a directory of that name is in the way"):
        sent_to(tmp_path, *entries, merge=True)
    assert sent_to(tmp_path, *entries).written == 1
    assert (tmp_path / "d/f").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("size", "mtime_ns", "strict", "written"),
    [
        (1, 5, False, 0),
        (1, 6, False, 1),
        (2, 5, False, 1),
        (1, 5, True, 0),
        (1, 2 * 10**9, False, 0),
        (1, 2 * 10**9, True, 1),
    ],
)
def test_a_file_is_the_same_by_size_and_time(
    tmp_path: Path, size: int, mtime_ns: int, strict: bool, written: int
) -> None:
    there = tmp_path / "f"
    there.write_bytes(b"x")
    stamp = mtime_ns if not mtime_ns % 10**9 else 5
    os.utime(there, ns=(stamp, stamp))
    entry = Stat(path=b"f", mode=FILE, size=size, mtime_ns=mtime_ns)
    assert sent_to(tmp_path, entry, strict=strict).written == written
    assert there.stat().st_mtime_ns == mtime_ns


def test_powers_of_an_owner_stay_where_he_does(tmp_path: Path) -> None:
    mine = Stat(path=b"a", mode=gomode.SETUID | 0o755, size=1, uid=os.geteuid(), gid=os.getegid())
    other = Stat(path=b"b", mode=gomode.SETUID | 0o755, size=1, uid=os.geteuid() + 1)
    third = Stat(path=b"c", mode=gomode.SETGID | 0o755, size=1, gid=os.getegid() + 1)
    sent_to(tmp_path, mine, other, third, own=False)
    modes = [(tmp_path / name).stat().st_mode & 0o7777 for name in "abc"]
    assert modes == [0o4755, 0o755, 0o755]


def test_links_and_times_of_directories_are_right_in_the_end(tmp_path: Path) -> None:
    entries = (
        Stat(path=b"d", mode=gomode.DIRECTORY | 0o500, mtime_ns=7),
        Stat(path=b"d/f", mode=FILE, size=1, mtime_ns=8),
        Stat(path=b"e", mode=FILE, size=1, linkname=b"d/f"),
        Stat(path=b"l", mode=gomode.SYMLINK | 0o777, linkname=b"d", mtime_ns=9),
    )
    for written in (1, 0):
        assert sent_to(tmp_path, *entries).written == written
        assert (tmp_path / "d").stat().st_mtime_ns == 7
        assert (tmp_path / "d").stat().st_mode & 0o777 == 0o500
        assert os.path.samefile(tmp_path / "e", tmp_path / "d/f")
        assert os.readlink(tmp_path / "l") == "d"
        assert os.lstat(tmp_path / "l").st_mtime_ns == 9
    changed = (*entries[:3], Stat(path=b"l", mode=gomode.SYMLINK | 0o777, linkname=b"e"))
    sent_to(tmp_path, *changed)
    assert os.readlink(tmp_path / "l") == "e"


def test_a_pipe_is_the_same_by_kind_mode_and_time(tmp_path: Path) -> None:
    def sent(mode: int, mtime_ns: int) -> int:
        sent_to(tmp_path, Stat(path=b"p", mode=gomode.FIFO | mode, mtime_ns=mtime_ns))
        found = os.lstat(tmp_path / "p")
        assert (stat.S_ISFIFO(found.st_mode), found.st_mtime_ns) == (True, mtime_ns)
        assert found.st_mode & 0o777 == mode
        # The number of a file that is gone may be given again: a name of ours keeps it.
        os.link(tmp_path / "p", tmp_path.parent / f"p{mtime_ns}-{mode}-{len(kept)}")
        kept.append(found.st_ino)
        return found.st_ino

    kept: list[int] = []
    first = sent(0o640, 7)
    assert sent(0o640, 7) == first
    other = sent(0o600, 7)
    assert other != first
    assert sent(0o600, 8) != other


def test_a_file_that_is_half_there_is_closed(tmp_path: Path) -> None:
    with none_left_open():
        writer = TreeWriter(str(tmp_path))
        receiver = Receiver(writer)
        sender = Sender(
            [Stat(path=b"f", mode=FILE, size=1 << 20)], lambda path: io.BytesIO(bytes(1 << 20))
        )
        for _ in range(3):
            sender.feed(receiver.feed(sender.produce()))
        assert not receiver.finished
        writer.close()
        del writer, receiver, sender


def test_sockets_are_counted_and_left_out(tmp_path: Path) -> None:
    writer = sent_to(tmp_path, Stat(path=b"s", mode=gomode.SOCKET | 0o600))
    assert (writer.skipped, os.listdir(tmp_path)) == (1, [])


# --- the walk -------------------------------------------------------------------------------------


def test_a_walk_tells_of_each_kind_what_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d/f").write_bytes(b"abc")
    (tmp_path / "d/f").chmod(0o600)
    (tmp_path / "g").symlink_to("d/f")
    os.link(tmp_path / "d/f", tmp_path / "h")
    for name in ("d/f", "d"):
        os.utime(tmp_path / name, ns=(1, 5))
    os.utime(tmp_path / "g", ns=(1, 6), follow_symlinks=False)

    def walked(**options: bool) -> list[Stat]:
        with Walk(str(tmp_path), **options) as walk:  # type: ignore[arg-type]
            return list(walk.entries())

    assert walked() == [
        Stat(path=b"d", mode=gomode.DIRECTORY | 0o700, mtime_ns=5),
        Stat(path=b"d/f", mode=0o600, size=3, mtime_ns=5),
        Stat(path=b"g", mode=gomode.SYMLINK | 0o777, size=3, mtime_ns=6, linkname=b"d/f"),
        Stat(path=b"h", mode=0o600, size=3, mtime_ns=5, linkname=b"d/f"),
    ]
    assert [entry.mode & 0o777 for entry in walked(git_modes=True)] == [0o755, 0o644, 0o777, 0o644]
    owners = {(entry.uid, entry.gid) for entry in walked(keep_owners=True)}
    status = os.stat(tmp_path)
    assert owners == {(status.st_uid, status.st_gid)}


def test_a_listed_file_is_opened_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"abc")
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "m").symlink_to("d/f")
    with Walk(str(tmp_path)) as walk:
        file = walk.open(b"d/f")
        assert (file.read(2), file.read(2), file.read(2)) == (b"ab", b"c", b"")
        file.close()
        file.close()
        for path in (b"l/f", b"m", b"none"):
            with pytest.raises(OSError):
                walk.open(path)


@pytest.mark.parametrize(
    ("include", "exclude", "follow", "expected"),
    [
        ([], ["d"], [], ["e", "e/f"]),
        ([], ["d", "!d/g"], [], ["d", "d/g", "d/g/h", "e", "e/f"]),
        (["d/g"], [], [], ["d", "d/g", "d/g/h"]),
        (["d"], [], ["e/f"], ["d", "d/f", "d/g", "d/g/h", "e", "e/f"]),
        (["*/f"], ["e"], [], ["d", "d/f"]),
        (["!x"], [], [], []),
        ([], [], [""], ["d", "d/f", "d/g", "d/g/h", "e", "e/f"]),
        (["d/g/h"], ["d/f"], [], ["d", "d/g", "d/g/h"]),
        (["**/h"], [], [], ["d", "d/g", "d/g/h"]),
        (["d/**"], [], [], ["d", "d/f", "d/g", "d/g/h"]),
    ],
)
def test_what_is_picked_comes_with_the_directories_above_it(
    tmp_path: Path, include: list[str], exclude: list[str], follow: list[str], expected: list[str]
) -> None:
    for name in ("d/g", "e"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("d/f", "d/g/h", "e/f"):
        (tmp_path / name).touch()
    with Walk(str(tmp_path), include=include, exclude=exclude, follow=follow) as walk:
        assert [os.fsdecode(entry.path) for entry in walk.entries()] == expected
