"""Archives that are looked through, and small jobs of workers on files and owners."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pybuild.executor.files import jobs, owners
from pybuild.executor.files.archives import Damaged, capped, damaged, is_archive, open_archive
from pybuild.executor.files.tree import Tree
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.model.border import WorkerCall
from pybuild.model.errors import UserError

IN_NS = 5_000_000_001
MINE = (os.geteuid(), os.getegid())
CALL = WorkerCall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- archives [ADD-1] ---------------------------------------------------------------------------------


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, size, mtime in (("a", 5, 1000), ("b", 40_000, 3000), ("c", 0, 2000)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = size, mtime
            archive.addfile(info, io.BytesIO(os.urandom(size)))
        info = tarfile.TarInfo("later")
        info.type, info.mtime = tarfile.DIRTYPE, 9000
        archive.addfile(info)
    return out.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def whole(read: Callable[[], bytes]) -> bytes:
    return b"".join(iter(read, b""))


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_archives_are_read_whole_with_all_their_members(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    data, path = tar(), tmp_path / "a"
    half = len(data) // 2
    for packed in (pack(data), pack(data[:half]) + pack(data[half:])):
        path.write_bytes(packed)
        with path.open("rb") as file:
            file.read(3)  # wherever the descriptor is
            read = open_archive(file.fileno())
            assert read is not None
            assert whole(read) == data
            assert read() == b""
        assert jobs.newest(CALL, str(path)) == 3000
        assert is_archive(packed[:512])


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz", "xz"]
)
def test_zeros_may_fill_up_the_end_and_nothing_else(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(pack(tar()) + bytes(300_000))
    with path.open("rb") as file:
        read = open_archive(file.fileno())
        assert read is not None
        assert len(whole(read)) == len(tar())
    path.write_bytes(pack(tar()) + bytes(10) + b"more")
    with path.open("rb") as file:
        read = open_archive(file.fileno())
        assert read is not None
        with pytest.raises(Damaged):
            whole(read)


def test_a_stream_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(tar())[:-20])
    with path.open("rb") as file:
        read = open_archive(file.fileno())
        assert read is not None
        with pytest.raises(Damaged, match="^it ends early$"):
            whole(read)


def test_what_is_no_archive_is_none(tmp_path: Path) -> None:
    for data in (b"", b"x" * 511, bytes(1024), gzip.compress(b"text"), b"\x1f\x8b\x08 broken"):
        (tmp_path / "a").write_bytes(data)
        with (tmp_path / "a").open("rb") as file:
            assert open_archive(file.fileno()) is None
        assert jobs.newest(CALL, str(tmp_path / "a")) is None
    with pytest.raises(UserError, match="^the build context is a zip archive, which cannot be"):
        is_archive(b"PK\x03\x04")


def test_an_archive_ends_at_its_limit() -> None:
    pieces = [b"", b"345", b"12"]
    read = capped(lambda: pieces.pop(), "a/b", 5)
    assert whole(read) == b"12345"
    pieces = [b"345", b"12"]
    read = capped(lambda: pieces.pop(), "a/b", 4)
    assert read() == b"12"
    with pytest.raises(Fault) as caught:
        read()
    assert (caught.value.kind, caught.value.message) == (
        ENVIRONMENT,
        'cannot unpack "/a/b": it goes on after 4 bytes',
    )
    fault = damaged("a", "why")
    assert (fault.kind, fault.message) == (USER, 'cannot unpack "/a": why')


# --- jobs of workers ----------------------------------------------------------------------------------


def test_a_file_of_a_tree_is_read_up_to_a_limit(tree: Tree, root: Path) -> None:
    (root / "d/link").symlink_to("/f")
    assert jobs.read_file(tree, "/d/link", 10) == b"old"
    assert jobs.read_file(tree, "f", 2) == b"ol"
    assert jobs.read_file(tree, "/no", 9) is None
    os.mkfifo(root / "pipe")
    for path in ("/d", "/pipe"):
        with pytest.raises(Fault, match=f"^{path}: not a regular file$") as caught:
            jobs.read_file(tree, path, 9)
        assert caught.value.kind == USER
    assert jobs.read(CALL, "/none", (), "/f", 9) is None


def test_small_jobs(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    jobs.same_file(CALL, str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"x" * 10_000
    jobs.own(CALL, str(tmp_path / "b"), *MINE, 0o2750)
    assert mode(tmp_path / "b") == 0o2750
    assert jobs.measure(CALL, str(tmp_path / "a"))[0] >= 10_000
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_bytes(b"x" * 10_000)
    assert jobs.remove(CALL, str(tmp_path / "d")) >= 10_000
    assert not (tmp_path / "d").exists()
    assert jobs.remove(CALL, str(tmp_path / "d")) == 0


# --- owners [CP-21] -----------------------------------------------------------------------------------

PASSWD = "root:x:0:0::/:\nwww:x:33:44::/:/bin/sh\nodd:x:a:1\nshort:x:5\n  far  :x:7:8\nbig:x:99999999999:1\n"


@pytest.mark.parametrize(
    ("user", "group", "ids"),
    [
        ("0", None, (0, 0)),
        ("12", None, (12, 12)),
        ("12", "", (12, 12)),
        ("12", "13", (12, 13)),
        ("4294967294", "0", (4294967294, 0)),
        ("www", None, (33, 44)),
        ("www", "staff", (33, 50)),
        ("www", "nobody", (33, 0)),
        ("odd", None, (0, 0)),
        ("short", None, (0, 0)),
        ("big", None, (0, 0)),
        ("none", "7", (0, 7)),
    ],
)
def test_owners_by_number_and_name(
    tree: Tree, root: Path, user: str, group: str | None, ids: tuple[int, int]
) -> None:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text("root:x:0:\nstaff:x:50:www\n")
    assert owners.resolve(tree, user, group, is_scratch=False) == ids


@pytest.mark.parametrize(
    ("user", "group", "unknown"),
    [
        ("www", "staff", None),
        ("1", "2", None),
        ("1", None, None),
        ("odd", None, ("user", "odd")),
        ("none", "gone", ("user", "none")),
        ("www", "gone", ("group", "gone")),
    ],
)
def test_owners_that_a_tree_does_not_know(
    tree: Tree, root: Path, user: str, group: str | None, unknown: tuple[str, str] | None
) -> None:
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text("staff:x:50:\n")
    assert owners.unknown(tree, user, group) == unknown


def test_owners_of_scratch_are_numbers(tree: Tree) -> None:
    assert owners.resolve(tree, "3", "4", is_scratch=True) == (3, 4)
    for user, group, kind in (("www", None, "user"), ("1", "staff", "group")):
        with pytest.raises(Fault, match=f"^invalid {kind} index: -1$") as caught:
            owners.resolve(tree, user, group, is_scratch=True)
        name = group or user
        assert caught.value.hints == (
            f'"{name}" cannot be looked up in an empty base: give a number',
        )
    assert owners.resolve(tree, "www", "staff", is_scratch=False) == (0, 0)


@pytest.mark.parametrize("text", ["4294967295", "00000000001"])
def test_ids_out_of_range(tree: Tree, text: str) -> None:
    with pytest.raises(Fault) as caught:
        owners.resolve(tree, text, None, is_scratch=False)
    assert caught.value.message == f"owner {text} is out of range: ids go from 0 to 4294967294"


def test_a_passwd_that_is_no_file_or_too_large(tree: Tree, root: Path) -> None:
    (root / "etc/passwd").mkdir(parents=True)
    with pytest.raises(Fault, match="^/etc/passwd is not a regular file$"):
        owners.resolve(tree, "www", None, is_scratch=False)
    (root / "etc/passwd").rmdir()
    with (root / "etc/passwd").open("wb") as file:
        file.truncate(10 << 20)
        assert owners.resolve(tree, "www", None, is_scratch=False) == (0, 0)
        file.truncate((10 << 20) + 1)
    with pytest.raises(Fault, match='^"/etc/passwd" exceeds 10485760 bytes$') as caught:
        owners.resolve(tree, "www", None, is_scratch=False)
    assert caught.value.kind == ENVIRONMENT
