"""Root writes a result where somebody else may write too, who moves and exchanges things meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import BadEntry
from pybuild.buildkit.fsutil.writer import TreeWriter
from pybuild.buildkit.pb.content import COMMIT, WriteContentRequest
from pybuild.client import content, filesend
from pybuild.client.files import archive_opener
from pybuild.exporter import bundle
from pybuild.exporter.atomicfile import whole_file
from pybuild.exporter.check import check_directory
from pybuild.exporter.directories import make_output, open_output
from pybuild.image.archive import name_in_layout, write_layout_blob
from pybuild.image.layer import confined, treecopy
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.snapshot import Snapshot
from pybuild.remotecache.places.directorysweep import sweep
from tests.harness import write
from tests.security import planting
from tests.security.planting import STRANGER

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of somebody else")


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

    once(monkeypatch, os, "open", move)
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
    cleared = confined.clear

    def clear(fd: int) -> list[bytes]:
        names = cleared(fd)
        if names == [b"srv", b"etc"]:
            names.reverse()
        if (out / "gone/srv/q").is_dir() and not os.listdir(out / "gone/srv/q"):
            os.rename(out / "gone/srv/q", machine.public / "q")
        return names

    monkeypatch.setattr(confined, "clear", clear)
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
        with pytest.raises(BadEntry):
            into._look(b"", b"file", entry("file", mode), mode, there)  # pyright: ignore[reportPrivateUsage]
    finally:
        into.close()


# --- links that come after the look ---------------------------------------------------------------


def plant(path: Path, target: Path) -> None:
    path.symlink_to(target)
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def to_tree(dest: Path) -> None:
    filesend.tree_writer(str(dest), False).close()


def to_directory(dest: Path) -> None:
    os.close(open_output(str(dest), make=True))


def to_file(dest: Path) -> None:
    with whole_file(str(dest / "file")) as fd:
        os.write(fd, b"x")


def to_sent_file(dest: Path) -> None:
    archive_opener(str(dest / "file"))({}).close()  # pyright: ignore[reportOptionalMemberAccess]


@root
@pytest.mark.parametrize("where", ["", "inner"])
@pytest.mark.parametrize("act", [to_tree, to_directory, to_file, to_sent_file])
def test_a_link_put_there_after_the_look_leads_nowhere(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None], where: str
) -> None:
    """A build's length may lie between the look and the writing."""
    dest = machine.public / "out" / where
    if act in (to_file, to_sent_file):
        dest.mkdir(parents=True)
        looked = os.path.isdir

        def exchange(path: str) -> bool:
            found = looked(path)
            if path == str(dest):
                os.rename(machine.public / "out", machine.public / "was")
                plant(machine.public / "out", machine.root / ("etc" if not where else ""))
                (machine.root / where).mkdir(exist_ok=True)
            return found

        monkeypatch.setattr(os.path, "isdir", exchange)
        kept = sorted(os.listdir(machine.root / "etc"))
    else:
        check_directory(str(dest), "output", is_layout=False)
        plant(machine.public / "out", machine.root)
        kept = sorted(os.listdir(machine.root / "etc"))
    with pytest.raises(UsageError, match=f"is a link of uid {STRANGER}"):
        act(dest)
    assert sorted(os.listdir(machine.root / "etc")) == kept
    assert not list(machine.root.glob("inner/*"))


def test_links_of_ones_own_and_climbing_ones_lead_on(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/up").symlink_to("../c")
    (tmp_path / "a/over").symlink_to(tmp_path / "a/up")
    os.close(open_output(str(tmp_path / "a/over/new/x"), make=True))
    assert (tmp_path / "c/new/x").is_dir()
    with pytest.raises(FileNotFoundError):
        open_output(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        open_output(str(tmp_path / "file"))
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(UsageError):
        open_output(str(tmp_path / "round"))


# --- layouts --------------------------------------------------------------------------------------


DATA = b"{}"
BLOB = Descriptor(OCI_MANIFEST, Digest.of(DATA), len(DATA))


def write_blob(dest: Path) -> None:
    (dest.parent / "blob").write_bytes(DATA)
    path = str(dest.parent / "blob")
    write_layout_blob(str(dest), BLOB, lambda digest: path, opened=make_output)


def name(dest: Path) -> None:
    name_in_layout(str(dest), BLOB, "latest", opened=make_output)


def take_blob(dest: Path) -> None:
    ingest = content.Ingest(content.BlobDirectory(str(dest), writable=True))
    try:
        ingest.take(WriteContentRequest(action=COMMIT, data=DATA))
    finally:
        ingest.close()


def free(dest: Path) -> None:
    sweep(str(dest), 2.0)


LAYOUTS = (
    (write_blob, "blobs/sha256"),
    (write_blob, "blobs"),
    (write_blob, ""),
    (name, ""),
    (take_blob, "blobs/sha256"),
    (take_blob, ""),
    (free, "blobs/sha256"),
    (free, "blobs"),
)


@root
@pytest.mark.parametrize(("act", "where"), LAYOUTS)
def test_a_layout_that_is_traded_for_a_link_leads_nowhere(
    tmp_path: Path, act: Callable[[Path], None], where: str
) -> None:
    dest = tmp_path / "layout"
    write_blob(dest)
    act(dest)
    victim = write(tmp_path / "victim", precious="x", **{"sha256/precious": "x"})
    for path in victim.rglob("precious"):
        os.utime(path, (1, 1))
        if act is free:  # else nothing there can be read, and all stays
            (path.parent / BLOB.digest.hex).write_bytes(DATA)
    if not where:
        write(victim, **{"oci-layout": "{}", "index.json": '{"manifests": []}'})
    name(dest)
    before = planting.state(victim)
    os.rename(dest / where, tmp_path / "was")
    plant(dest / where, victim)
    with pytest.raises(UsageError, match=f"is a link of uid {STRANGER}"):
        act(dest)
    assert planting.state(victim) == before


@root
def test_what_a_layout_keeps_by_a_link_of_ones_own_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/blobs").symlink_to("../shared")
    write_blob(tmp_path / "layout")
    take_blob(tmp_path / "layout")
    assert (tmp_path / "shared/sha256" / BLOB.digest.hex).read_bytes() == DATA


@root
def test_a_bundle_is_not_unpacked_through_a_link_that_came_after_the_look(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``config.json`` would take the place of another one."""
    dest = machine.public / "bundle"
    plant(dest, machine.root / "etc")
    with pytest.raises(UsageError, match=f"is a link of uid {STRANGER}"):
        asyncio.run(bundle.write_bundle(cast("Any", None), Snapshot(()), {}, str(dest), False))
    assert machine.is_whole()
