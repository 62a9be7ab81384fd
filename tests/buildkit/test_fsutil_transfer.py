"""Trees arrive as they were sent, and the next time only what changed moves."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import Receiver, order_key
from pybuild.buildkit.fsutil.sender import Sender
from pybuild.buildkit.fsutil.walk import Walk
from pybuild.buildkit.fsutil.writer import TreeWriter
from tests.buildkit.fsentries import DIR, FILE
from tests.daemon.trees import Transfer, describe


def _make(root: Path, tree: dict[str, object]) -> None:
    for name, value in tree.items():
        path = root / name
        if isinstance(value, dict):
            path.mkdir()
            _make(path, value)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, str):
            path.symlink_to(value)
        elif isinstance(value, bytes):
            path.write_bytes(value)


_NAME = st.text("ab-.é ", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
_LEAF = st.one_of(st.binary(max_size=40), st.sampled_from(["a", "../a", "/etc", "b/c"]))
_TREES = st.dictionaries(
    _NAME,
    st.recursive(_LEAF, lambda inner: st.dictionaries(_NAME, inner, max_size=4), max_leaves=12),
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_TREES, _TREES, st.randoms(use_true_random=False))
def test_any_tree_arrives_over_any_other_and_again_nothing_moves(
    first: dict[str, object], second: dict[str, object], random: object
) -> None:
    del random
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "target")
        target.mkdir()
        for number, tree in enumerate((first, second)):
            source = Path(folder, f"source{number}")
            source.mkdir()
            _make(source, tree)
            Transfer(source, target)
            assert describe(target) == describe(source)
            again = Transfer(source, target)
            assert (again.asked, again.removed) == (0, 0)
            assert describe(target) == describe(source)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    _make(
        root,
        {
            "Dockerfile": b"FROM scratch\n",
            "empty": b"",
            "big": os.urandom(3 << 20),
            "src": {"a.go": b"a", "b.go": b"b", "deep": {"er": {"x": b"x"}}},
            "src-": {"z": b"z"},
            "none": {},
            "link": "src/a.go",
            "dangling": "nowhere",
        },
    )
    os.link(root / "src" / "a.go", root / "zz-hard")
    (root / "src" / "b.go").chmod(0o755)
    os.utime(root / "src" / "a.go", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "empty", ns=(0, -5_000_000_001))
    os.utime(root / "link", ns=(1, 42), follow_symlinks=False)
    os.utime(root / "src", ns=(7, 7))
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    root.mkdir()
    return root


def test_types_modes_times_links_and_hard_links_arrive(source: Path, target: Path) -> None:
    os.mkfifo(source / "pipe", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "sock"))
    (source / "src").chmod(0o2755)
    (source / "big").chmod(0o4755)
    Transfer(source, target)
    expected = describe(source)
    del expected["sock"]
    assert describe(target) == expected
    assert os.path.samefile(target / "src" / "a.go", target / "zz-hard")


def test_entries_are_ordered_by_component() -> None:
    paths = [b"a-b", b"ab", b"a/b", b"a.b", b"a"]
    assert sorted(paths, key=order_key) == [b"a", b"a/b", b"a-b", b"a.b", b"ab"]


def test_only_what_changed_is_asked_for(source: Path, target: Path) -> None:
    first = Transfer(source, target)
    assert first.asked == 7
    inodes = {name: os.stat(target / name).st_ino for name in ("big", "src/a.go", "Dockerfile")}
    (source / "Dockerfile").write_bytes(b"FROM busybox\n")
    (source / "src" / "new").write_bytes(b"new")
    shutil.rmtree(source / "src" / "deep")
    (source / "none").rmdir()
    with open(target / "Dockerfile", "rb"):  # so that no other file gets its number
        second = Transfer(source, target)
    assert (second.asked, second.removed) == (2, 2)
    assert describe(target) == describe(source)
    assert os.stat(target / "big").st_ino == inodes["big"]
    assert os.stat(target / "Dockerfile").st_ino != inodes["Dockerfile"]


def test_an_unchanged_file_keeps_even_its_change_time(source: Path, target: Path) -> None:
    Transfer(source, target)
    before = os.stat(target / "big")
    Transfer(source, target)
    assert os.stat(target / "big").st_ctime_ns == before.st_ctime_ns


def test_a_changed_mode_moves_no_data(source: Path, target: Path) -> None:
    Transfer(source, target)
    (source / "big").chmod(0o600)
    (source / "none").chmod(0o700)
    assert Transfer(source, target).asked == 0
    assert describe(target) == describe(source)


@pytest.mark.root
@pytest.mark.parametrize(("mode", "data"), [(FILE, b"abc"), (DIR, b"")], ids=["file", "directory"])
def test_what_is_unchanged_gets_the_owner_of_now(tmp_path: Path, mode: int, data: bytes) -> None:
    def send(uid: int, gid: int) -> os.stat_result:
        entry = Stat(path=b"f", mode=mode, size=len(data), mtime_ns=5, uid=uid, gid=gid)
        sender = Sender([entry], lambda path: io.BytesIO(data))
        writer = TreeWriter(str(tmp_path))
        receiver = Receiver(writer)
        while not (receiver.finished and sender.finished):
            sender.feed(receiver.feed(sender.produce()))
        writer.finish()
        writer.close()
        return os.stat(tmp_path / "f")

    first, second, third = send(0, 0), send(7, 0), send(7, 8)
    assert (first.st_uid, first.st_gid) == (0, 0)
    assert (second.st_uid, second.st_gid) == (7, 0)
    assert (third.st_uid, third.st_gid) == (7, 8)
    assert first.st_ino == second.st_ino == third.st_ino


@pytest.mark.parametrize("name", ["big", "none"])
@pytest.mark.parametrize("changes", [(b"1", b"2"), (b"1", None), (None, b"1")])
def test_attributes_are_those_of_now_though_no_time_changed(
    source: Path, target: Path, name: str, changes: tuple[bytes | None, bytes | None]
) -> None:
    for value in changes:
        try:
            if value is not None:
                os.setxattr(source / name, "user.mark", value)
            elif "user.mark" in os.listxattr(source / name):
                os.removexattr(source / name, "user.mark")
        except OSError:
            pytest.skip("no user attributes here")
        Transfer(source, target, attributes=True)
        found = os.listxattr(target / name)
        assert found == ([] if value is None else ["user.mark"])
        assert value is None or os.getxattr(target / name, "user.mark") == value
    assert Transfer(source, target, attributes=True).asked == 0


def test_types_change_places(source: Path, target: Path) -> None:
    Transfer(source, target)
    shutil.rmtree(source / "src")
    (source / "src").write_bytes(b"now a file")
    (source / "big").unlink()
    (source / "big").mkdir()
    (source / "big" / "in").write_bytes(b"x")
    (source / "link").unlink()
    (source / "link").write_bytes(b"no link")
    (source / "Dockerfile").unlink()
    (source / "Dockerfile").symlink_to("big/in")
    Transfer(source, target)
    assert describe(target) == describe(source)


def test_a_changed_file_does_not_change_those_it_was_linked_with(
    source: Path, target: Path
) -> None:
    Transfer(source, target)
    (source / "zz-hard").unlink()
    (source / "zz-hard").write_bytes(b"other")
    Transfer(source, target)
    assert describe(target) == describe(source)
    assert (target / "src" / "a.go").read_bytes() == b"a"


def test_a_file_that_grows_while_it_is_sent_is_fetched_again(source: Path, target: Path) -> None:
    grown = False

    def grow() -> None:
        nonlocal grown
        if not grown and (target / "big").exists():
            with open(source / "big", "ab") as file:
                file.write(b"more")
            os.truncate(source / "Dockerfile", 3)
            grown = True

    Transfer(source, target, step=grow)
    assert grown
    assert Transfer(source, target).asked >= 1
    assert describe(target) == describe(source)


_KILLED = """
import os, signal, sys
from tests.buildkit.fsentries import DIR, FILE
from tests.daemon.trees import Transfer
left = int(sys.argv[3])
def step():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
Transfer(sys.argv[1], sys.argv[2], step=step)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 4, 8, 12])
def test_a_copy_survives_the_death_of_who_writes_it(source: Path, target: Path, after: int) -> None:
    command = [sys.executable, "-c", _KILLED, str(source), str(target), str(after)]
    killed = subprocess.run(command, timeout=30, check=False)
    assert killed.returncode == -signal.SIGKILL
    Transfer(source, target)
    assert describe(target) == describe(source)


def _transfer_device(target: Path, path: bytes) -> None:
    from pybuild.buildkit.fsutil import gomode
    from pybuild.buildkit.fsutil.receiver import Receiver
    from pybuild.buildkit.fsutil.sender import Sender
    from pybuild.buildkit.fsutil.writer import TreeWriter

    def never(path: bytes) -> NoReturn:
        raise AssertionError(path)

    mode = gomode.DEVICE | gomode.CHARACTER | 0o600
    folders = [Stat(path=b"d", mode=gomode.DIRECTORY | 0o755)] if b"/" in path else []
    entries = [*folders, Stat(path=path, mode=mode, devmajor=1, devminor=3, mtime_ns=9)]
    writer = TreeWriter(str(target))
    try:
        receiver, sender = Receiver(writer), Sender(entries, never)
        while not receiver.finished:
            sender.feed(receiver.feed(sender.produce()))
        writer.finish()
    finally:
        writer.close()


@pytest.mark.root
def test_devices_arrive_where_they_can_be_made(target: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for _ in range(2):
        _transfer_device(target, b"null")
        assert os.lstat(target / "null").st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("path", ["null", "d/null"])
def test_devices_that_cannot_be_made_are_named_and_never_left_out(
    target: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain_user(*args: object, **more: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mknod", plain_user)
    with pytest.raises(PermissionError, match=f"only root can make the device '{path}'"):
        _transfer_device(target, path.encode())


# --- what is picked -------------------------------------------------------------------------------


def _picked(
    root: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), follow: Sequence[str] = ()
) -> list[str]:
    with Walk(str(root), include=include, exclude=exclude, follow=follow) as walk:
        return [entry.path.decode() for entry in walk.entries()]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    root.mkdir()
    _make(
        root,
        {
            ".git": {"HEAD": b""},
            "app": {"main.py": b"", "lib": {"one.py": b"", "two.txt": b""}},
            "docs": {"a.md": b"", "sub": {"b.md": b""}},
            "current": "releases/2",
            "releases": {"1": {"bin": b""}, "2": {"bin": b"", "up": "../1/bin"}, "abs": "/docs"},
            "loop": "loop",
            "st*r": b"",
            "star": b"",
        },
    )
    return root


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"exclude": ["*", "!app/lib"]}, ["app", "app/lib", "app/lib/one.py", "app/lib/two.txt"]),
        ({"exclude": ["*", "!app/lib/*.py"]}, ["app", "app/lib", "app/lib/one.py"]),
        ({"include": ["docs/*/b.md"]}, ["docs", "docs/sub", "docs/sub/b.md"]),
        ({"include": ["**/*.md"]}, ["docs", "docs/a.md", "docs/sub", "docs/sub/b.md"]),
        ({"include": ["app"], "exclude": ["app/lib"]}, ["app", "app/main.py"]),
        ({"include": ["missing"]}, []),
        ({"follow": ["docs/a.md"]}, ["docs", "docs/a.md"]),
        ({"follow": ["missing"]}, []),
        (
            {"follow": ["current/up"]},
            ["current", "releases", "releases/1", "releases/1/bin", "releases/2", "releases/2/up"],
        ),
        ({"follow": ["releases/abs/a*"]}, ["docs", "docs/a.md", "releases", "releases/abs"]),
        ({"follow": ["loop"]}, ["loop"]),
        ({"follow": ["../../../docs/a.md"]}, ["docs", "docs/a.md"]),
        ({"follow": ["st\\*r"]}, ["st*r"]),
        ({"follow": ["st*r"]}, ["st*r", "star"]),
        ({"follow": ["*/main.py"]}, ["app", "app/main.py", "current", "loop"]),
    ],
)
def test_patterns_pick_what_the_reference_picks(
    context: Path, patterns: dict[str, list[str]], expected: list[str]
) -> None:
    assert _picked(context, **patterns) == expected


def test_everything_is_picked_by_the_root(context: Path) -> None:
    everything = _picked(context)
    assert len(everything) > 15
    assert _picked(context, follow=["/"]) == everything
    assert all(stat.S_ISDIR(os.lstat(context / p).st_mode) for p in everything if p == "app")


def test_walks_refuse_what_is_no_pattern(context: Path) -> None:
    with pytest.raises(ValueError, match="syntax error"):
        _picked(context, include=["a["])
