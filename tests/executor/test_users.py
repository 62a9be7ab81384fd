"""Whom a step runs as, and paths inside a tree that may be hostile, in this process [USR-1, SBX-14]."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.executor.zygote import confined
from pybuild.executor.zygote.faults import Fault
from pybuild.executor.zygote.users import ROOT, StepUser, resolve

PASSWD = """root:x:0:0:root:/root:/bin/sh
app:x:1000:1001::/home/app:/bin/sh
broken:x:one:1::/:/bin/sh
broken:x:7:8:::

short:x:5:6
few:x
7:x:70:71::/seven:/bin/sh
large:x:2147483648:1::/:/bin/sh
most:x:2147483647:1::/:/bin/sh
"""
GROUP = (
    "root:x:0:\napp:x:1001:\nextra:x:2000:app,other\nbad:x:y:app\nlone:x:3000\nlast:x:4000:app\n"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def fd(tree: Path) -> Generator[int]:
    fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("spec", "user"),
    [
        ("", StepUser(0, 0, (0,), "/root")),
        ("app", StepUser(1000, 1001, (1001, 2000, 4000), "/home/app")),
        ("1000", StepUser(1000, 1001, (1001, 2000, 4000), "/home/app")),
        ("app:lone", StepUser(1000, 3000, (3000,), "/home/app")),
        ("app:5", StepUser(1000, 5, (5,), "/home/app")),
        ("1234", StepUser(1234, 0, (0,), "")),
        ("1234:extra", StepUser(1234, 2000, (2000,), "")),
        ("broken", StepUser(7, 8, (8,), "")),
        ("short", StepUser(5, 6, (6,), "")),
        ("7", StepUser(7, 8, (8,), "")),  # a number is an id, whatever accounts are called
        ("most", StepUser(2147483647, 1, (1,), "/")),
    ],
)
def test_a_user_is_found(fd: int, spec: str, user: StepUser) -> None:
    assert resolve(fd, spec) == user


def test_one_is_in_further_groups(fd: int) -> None:
    assert resolve(fd, "app", ["lone", "9", "extra"]).groups == (1001, 2000, 4000, 3000, 9)
    assert ROOT == StepUser(0, 0, (), "/root")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("few", "unable to find user few"),
        ("app:nobody", "unable to find group nobody: no matching entries in group file"),
        ("app:bad", "unable to find group bad"),
        ("large", 'user "large": uids and gids must be in range 0-2147483647'),
        ("1:2147483648", "must be in range"),
        ("12345678901", "unable to find user 12345678901"),
        ("\u0663", "unable to find user"),
    ],
)
def test_a_user_that_is_none_is_refused(fd: int, spec: str, message: str) -> None:
    with pytest.raises(Fault, match=message):
        resolve(fd, spec)


def test_a_tree_without_accounts_has_numbers_alone(tree: Path, fd: int) -> None:
    for name in ("passwd", "group"):
        (tree / "etc" / name).unlink()
    assert resolve(fd, "5:6") == StepUser(5, 6, (6,), "")
    with pytest.raises(Fault, match="unable to find user app"):
        resolve(fd, "app")
    os.mkfifo(tree / "etc/passwd")
    with pytest.raises(Fault, match="/etc/passwd in the image: not a regular file"):
        resolve(fd, "5")


def test_a_file_is_read_inside_the_tree(tree: Path, fd: int) -> None:
    (tree / "link").symlink_to("/etc/group")
    (tree / "out").symlink_to("../../../../../../etc/group")
    (tree / "long").write_bytes(bytes(100_000))
    assert confined.read_file(fd, "link", 1000) == confined.read_file(fd, "out", 1000)
    assert confined.read_file(fd, "/link", 1000) == GROUP.encode()
    assert confined.read_file(fd, "long", 100_000) == bytes(100_000)
    assert confined.read_file(fd, "none", 1) is None
    assert confined.read_file(fd, "link/below", 1) is None
    for path, limit, code in (("long", 99_999, errno.EFBIG), ("etc", 9, errno.EINVAL)):
        with pytest.raises(OSError) as caught:
            confined.read_file(fd, path, limit)
        assert caught.value.errno == code
    assert confined.exists(fd, "link") and not confined.exists(fd, "etc/passwd/x")
    with pytest.raises(OSError) as caught:
        confined.open_in(fd, "link", links=False)
    assert caught.value.errno == errno.ELOOP


def test_a_path_is_told_without_links_and_with_what_is_missing(tree: Path, fd: int) -> None:
    (tree / "d").symlink_to("/etc/")
    (tree / "dangling").symlink_to("../new/place")
    (tree / "loop").symlink_to("loop")
    located: dict[str, tuple[list[str], int]] = {
        "": ([], 0),
        "/etc/passwd": (["etc", "passwd"], 0),
        "d/passwd": (["etc", "passwd"], 0),
        "d/./x/y": (["etc", "x", "y"], 2),
        "dangling": (["new", "place"], 2),
        "etc/x/../y": (["etc", "y"], 1),
        "x/../etc/group": (["etc", "group"], 0),
        "../..": ([], 0),
        "etc/passwd/.": (["etc", "passwd"], 0),
    }
    for path, found in located.items():
        assert confined.locate(fd, path) == found, path
    for path, code in (("loop", errno.ELOOP), ("etc/passwd/x", errno.ENOTDIR)):
        with pytest.raises(OSError) as caught:
            confined.locate(fd, path)
        assert caught.value.errno == code


def test_what_is_missing_is_made(tree: Path, fd: int) -> None:
    before = os.umask(0)
    try:
        confined.make_missing(fd, "/a/b/c", directory=True)
        confined.make_missing(fd, "a/d/file", directory=False)
        confined.make_missing(fd, "etc/passwd", directory=True)  # is there
    finally:
        os.umask(before)
    assert (tree / "a/b/c").is_dir() and (tree / "a/d/file").read_bytes() == b""
    assert (tree / "a").stat().st_mode & 0o777 == 0o755
    assert (tree / "a/d/file").stat().st_mode & 0o777 == 0o644
    assert (tree / "etc/passwd").read_text() == PASSWD
