"""Layers made by an enemy: each is refused with a clear fault, or does only what it may [IMG-14]."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pybuild.image.layer import tarformat
from pybuild.image.layer.apply import apply_job
from pybuild.image.layer.orders import LowersMissing, UnpackedLayer, UnpackOrder
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault

from .trees import look, root_only, unpack

REG, LNK, SYM, CHR, DIR = b"0", b"1", b"2", b"3", b"5"


def tar(*blocks: bytes) -> bytes:
    return b"".join(blocks) + tarformat.END


def entry(name: bytes, kind: bytes = REG, content: bytes = b"", **fields: int | bytes) -> bytes:
    head = tarformat.entry(name, kind, size=len(content), **fields)  # type: ignore[arg-type]  # pyright: ignore
    return head + content + tarformat.padding(len(content))


def header(start: int, field: bytes, name: bytes = b"x", kind: bytes = REG) -> bytes:
    """Return a header with bytes replaced and the checksum made right again."""
    block = bytearray(tarformat.entry(name, kind))
    block[start : start + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(body: bytes, kind: bytes = b"x") -> bytes:
    block = bytearray(tarformat.entry(b"p", kind, size=len(body)))
    return bytes(block) + body + tarformat.padding(len(body))


def record(text: bytes) -> bytes:
    size = len(text) + 2
    while len(str(size)) + len(text) + 2 != size:
        size += 1
    return b"%d %s\n" % (size, text)


REFUSED: dict[str, tuple[bytes, str]] = {
    "dotdot": (tar(entry(b"../x")), r'leaves its directory: "\.\./x"'),
    "dotdot-inside": (tar(entry(b"a/../../x")), "leaves its directory"),
    "dotdot-last": (tar(entry(b"a/..", DIR)), "leaves its directory"),
    "dotdot-absolute": (tar(entry(b"/../x")), "leaves its directory"),
    "empty-name": (tar(entry(b"")), "entry without a name"),
    "root-as-file": (tar(entry(b"./")), "entry without a name"),
    "nul-in-pax-path": (tar(pax(record(b"path=a\0b")), entry(b"x")), "NUL in the PAX record"),
    "below-a-file": (tar(entry(b"a"), entry(b"a/b")), 'entries below "a", which is no directory'),
    "link-loop": (
        tar(entry(b"a", SYM, link=b"b"), entry(b"b", SYM, link=b"a"), entry(b"a/x")),
        "too many links",
    ),
    "hardlink-out": (tar(entry(b"x", LNK, link=b"../../etc/passwd")), "leaves its directory"),
    "hardlink-nowhere": (tar(entry(b"x", LNK, link=b"/etc/passwd")), "which is not there"),
    "hardlink-to-directory": (
        tar(entry(b"d/", DIR), entry(b"x", LNK, link=b"d")),
        '"d", which is no file',
    ),
    "hardlink-to-itself": (tar(entry(b"x"), entry(b"x", LNK, link=b"x")), "points to itself"),
    "hardlink-to-whiteout": (
        tar(entry(b"x"), entry(b"y", LNK, link=b".wh.x")),
        "has the bad target",
    ),
    "hardlink-to-nothing": (tar(entry(b"x", LNK)), "has the bad target"),
    "whiteout-of-dotdot": (tar(entry(b".wh...")), "whiteout of nothing"),
    "whiteout-of-dot": (tar(entry(b".wh..")), "whiteout of nothing"),
    "whiteout-of-empty": (tar(entry(b".wh.")), "whiteout of nothing"),
    "below-a-whiteout": (tar(entry(b".wh.d/x")), "entry below a whiteout"),
    "device-as-whiteout": (tar(entry(b"x", CHR)), "device 0:0"),
    "bad-device-number": (
        tar(header(329, b"7777777\0", kind=CHR)),
        "bad device number",
    ),
    "unknown-type": (tar(header(156, b"Z")), 'unknown type "Z"'),
    "gnu-sparse": (tar(header(156, b"S")), "sparse file"),
    "pax-sparse": (tar(pax(record(b"GNU.sparse.major=1")), entry(b"x")), "sparse file"),
    "negative-size": (tar(header(124, b"\xff" * 12)), "has the size -1"),
    "huge-size": (tar(header(124, b"\x80" + b"\x7f" * 11)), "has the size"),
    "size-beyond-the-end": (header(124, b"00000001000\0"), "ends early"),
    "letters-in-a-number": (tar(header(124, b"0x10       \0")), "bad size"),
    "sign-in-a-number": (tar(header(108, b"-000001\0")), "bad uid"),
    "negative-uid": (tar(header(108, b"\xff" * 8)), "has the uid -1"),
    "wrong-checksum": (tar(entry(b"x"))[:-1024].replace(b"x", b"y", 1), "wrong checksum"),
    "no-tar-at-all": (b"<!DOCTYPE html>" * 100, "tar header has a bad checksum|wrong checksum"),
    "half-a-header": (entry(b"x")[:300], "ends early"),
    "stray-zeros": (bytes(512) + entry(b"x"), "stray block of zeros"),
    "only-an-extended-header": (pax(record(b"path=x")), "after an extended header"),
    "huge-extended-header": (tar(header(124, b"77777777777\0", kind=b"x")), "is too large"),
    "huge-long-name": (tar(header(124, b"77777777777\0", kind=b"L")), "is too large"),
    "pax-length-lies": (tar(pax(b"99 path=x\n"), entry(b"x")), "malformed PAX"),
    "pax-length-zero": (tar(pax(b"0 path=x\n"), entry(b"x")), "malformed PAX"),
    "pax-length-signed": (tar(pax(b"-9 path=x\n"), entry(b"x")), "malformed PAX"),
    "pax-no-equals": (tar(pax(b"7 path\n"), entry(b"x")), "malformed PAX"),
    "pax-bad-size": (tar(pax(record(b"size=-1")), entry(b"x")), "bad PAX size"),
    "pax-bad-time": (tar(pax(record(b"mtime=now")), entry(b"x")), "bad PAX mtime"),
    "pax-huge-uid": (tar(pax(record(b"uid=4294967295")), entry(b"x")), "has the uid 4294967295"),
    "name-too-long": (tar(entry(b"a/" * 2100 + b"x")), "name of 4201 bytes"),
    "component-too-long": (tar(entry(b"n" * 256)), "cannot unpack .*: File name too long"),
    "xattr-name-with-nul": (
        tar(pax(record(b"SCHILY.xattr.user.a\0b=1")), entry(b"x")),
        "cannot unpack",
    ),
}


@root_only
@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    data, message = REFUSED[case]
    (tmp_path / "o").mkdir()
    (tmp_path / "blob").write_bytes(data)
    order = UnpackOrder(str(tmp_path / "o"), str(tmp_path / "blob"), lowers=[])
    with pytest.raises(EnvironmentFault, match=message):
        apply_job(WorkerCall(), order)
    assert os.listdir(tmp_path / "o") == []
    assert sorted(os.listdir(tmp_path)) == ["blob", "o"]


@root_only
@pytest.mark.parametrize("link", [b"..", b"../..", b"/", b"../outside", b"/../../outside"])
def test_entries_through_links_stay_inside(tmp_path: Path, link: bytes) -> None:
    (tmp_path / "outside").mkdir()
    absolute = os.fsencode(tmp_path) + b"/outside"
    for number, target in enumerate((link, absolute)):
        out = tmp_path / f"o{number}"
        data = tar(entry(b"a", SYM, link=target), entry(b"a/x"), entry(b"a/.wh.y"))
        unpack(data, out, lowers=[])
        assert os.listdir(tmp_path / "outside") == []
        assert sum(1 for name in look(out) if name.endswith(b"x")) == 1
    assert sorted(os.listdir(tmp_path)) == ["o0", "o1", "outside"]


@root_only
def test_file_is_not_written_through_a_link_of_its_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    link = os.fsencode(victim)
    unpack(tar(entry(b"a", SYM, link=link), entry(b"a", content=b"evil")), tmp_path / "o")
    assert victim.read_text() == "safe"
    assert (tmp_path / "o/a").read_text() == "evil"


@root_only
def test_hard_link_to_a_planted_link_links_the_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    data = tar(
        entry(b"a", SYM, link=os.fsencode(victim)),
        entry(b"b", LNK, link=b"a"),
        entry(b"b", content=b"evil", mode=0o6777),
    )
    unpack(data, tmp_path / "o")
    assert victim.read_text() == "safe" and victim.stat().st_nlink == 1
    assert victim.stat().st_mode & 0o6000 == 0


@root_only
def test_directory_swapped_for_a_link_gets_no_late_times(tmp_path: Path) -> None:
    """Directory times are set at the end, when the name may mean something else."""
    outside = tmp_path / "outside"
    (outside / "sub").mkdir(parents=True)
    before = (outside / "sub").stat().st_mtime_ns
    data = tar(
        entry(b"d/", DIR, mtime=1),
        entry(b"d/sub/", DIR, mtime=2),
        entry(b"d", SYM, link=os.fsencode(outside)),
    )
    unpack(data, tmp_path / "o")
    assert (outside / "sub").stat().st_mtime_ns == before
    assert (tmp_path / "o/d").is_symlink()


@root_only
def test_link_replaced_by_a_directory_is_not_remembered(tmp_path: Path) -> None:
    data = tar(
        entry(b"b/", DIR, mode=0o755),
        entry(b"a", SYM, link=b"b"),
        entry(b"a/1"),
        entry(b"a/", DIR, mode=0o755),
        entry(b"a/2"),
    )
    unpack(data, tmp_path / "o")
    assert (os.listdir(tmp_path / "o/b"), os.listdir(tmp_path / "o/a")) == (["1"], ["2"])


@pytest.mark.root
def test_size_on_a_directory_is_not_content(tmp_path: Path) -> None:
    """Like Go's reader; another answer would make two readers see different files."""
    data = tar(header(124, b"00000000005\0", b"d/", DIR), entry(b"x"))
    unpack(data, tmp_path / "o")
    assert sorted(os.listdir(tmp_path / "o")) == ["d", "x"]


@pytest.mark.root
def test_global_headers_change_nothing(tmp_path: Path) -> None:
    unpack(tar(pax(record(b"path=evil"), b"g"), entry(b"x")), tmp_path / "o")
    assert os.listdir(tmp_path / "o") == ["x"]


@pytest.mark.root
def test_missing_end_and_trailing_bytes_are_tolerated(tmp_path: Path) -> None:
    unpack(entry(b"x"), tmp_path / "1")
    unpack(tar(entry(b"x")) + b"garbage" + entry(b"y"), tmp_path / "2")
    assert os.listdir(tmp_path / "1") == os.listdir(tmp_path / "2") == ["x"]


# --- compression ----------------------------------------------------------------------------------


def apply_blob(
    tmp_path: Path, blob: bytes, *, max_bytes: int | None = None, apart: bool = False
) -> UnpackedLayer | LowersMissing:
    (tmp_path / "o").mkdir()
    (tmp_path / "blob").write_bytes(blob)
    order = UnpackOrder(str(tmp_path / "o"), str(tmp_path / "blob"), lowers=[])
    return apply_job(WorkerCall(), order._replace(max_bytes=max_bytes, apart=apart))


GOOD = tar(entry(b"x", content=b"hello" * 1000))
SPOIL: dict[str, tuple[Callable[[], bytes], str]] = {
    "gzip-cut": (lambda: gzip.compress(GOOD)[:-20], "gzip stream ends early"),
    "gzip-without-trailer": (lambda: gzip.compress(GOOD)[:-8], "gzip stream ends early"),
    "gzip-wrong-crc": (lambda: gzip.compress(GOOD)[:-8] + bytes(8), "damaged gzip stream"),
    "gzip-then-garbage": (lambda: gzip.compress(GOOD) + b"garbage!!", "gzip"),
    "gzip-header-only": (lambda: b"\x1f\x8b", "gzip stream ends early"),
    "zstd-then-garbage": (lambda: zstandard.compress(GOOD) + b"garbage!!", "damaged zstd stream"),
    "zstd-spoilt": (lambda: zstandard.compress(GOOD)[:9] + b"\xff" * 40, "damaged zstd stream"),
    "zstd-cut": (lambda: zstandard.compress(GOOD)[:-4], "zstd stream ends early"),
    "zstd-header-only": (lambda: zstandard.compress(GOOD)[:4], "zstd stream ends early"),
}


@pytest.mark.root
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("case", SPOIL)
def test_damaged_compression_is_refused(tmp_path: Path, case: str, apart: bool) -> None:
    make, message = SPOIL[case]
    with pytest.raises(EnvironmentFault, match=message):
        apply_blob(tmp_path, make(), apart=apart)
    assert os.listdir(tmp_path / "o") == []


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_bombs_stop_at_the_limit(
    tmp_path: Path, pack: Callable[[bytes], bytes], apart: bool
) -> None:
    bomb = pack(tar(entry(b"x", content=bytes(60_000_000))))
    assert len(bomb) < 100_000
    with pytest.raises(EnvironmentFault, match="layer is larger than 9000000 bytes") as caught:
        apply_blob(tmp_path, bomb, max_bytes=9_000_000, apart=apart)
    assert "the disk of the store has room for no more" in caught.value.hints[0]
    assert os.listdir(tmp_path / "o") == []


@pytest.mark.root
def test_streams_in_several_members_are_one(tmp_path: Path) -> None:
    """[RFC 1952, 2.2]; estargz layers are made so."""
    half = len(GOOD) // 2
    blob = gzip.compress(GOOD[:half]) + gzip.compress(b"") + gzip.compress(GOOD[half:])
    unpacked = apply_blob(tmp_path, blob)
    assert isinstance(unpacked, UnpackedLayer) and unpacked.size == len(GOOD)
    assert (tmp_path / "o/x").read_bytes() == b"hello" * 1000


@pytest.mark.root
def test_zstd_frames_and_skippable_frames_are_read(tmp_path: Path) -> None:
    half = len(GOOD) // 2
    skip = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"
    blob = skip + zstandard.compress(GOOD[:half]) + zstandard.compress(GOOD[half:]) + skip
    unpacked = apply_blob(tmp_path, blob)
    assert isinstance(unpacked, UnpackedLayer) and unpacked.size == len(GOOD)


def test_tarfile_agrees_with_what_we_accept(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as archive:
        assert archive.getnames() == ["x"]
