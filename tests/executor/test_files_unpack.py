"""ADD of archives: what is one, what unpacking does, and that no entry leaves the tree [ADD-1..3]."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pybuild.executor.files.archives import Damaged, is_archive, open_archive
from pybuild.executor.zygote.faults import Fault
from pybuild.model.ops import Copy, Owner
from tests.executor.filetrees import Bench, Entry, Link, Spec, needs_root

BASE: Spec = {"etc/passwd": "base", "usr/bin/": None, "bin": Link("usr/bin")}

Member = tuple[str, bytes, str | bytes]


def tar(*members: Member, mode: int = 0o640, uid: int = 7, xattr: bool = False) -> bytes:
    """Members are (name, type, content or link target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, uid + 1, 4444
            if xattr:
                info.pax_headers = {"SCHILY.xattr.user.note": "kept"}
            data = b""
            if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
                info.linkname = str(value)
            elif kind == tarfile.REGTYPE:
                data = value.encode() if isinstance(value, str) else value
                info.size = len(data)
            elif kind == tarfile.CHRTYPE:
                info.devmajor, info.devminor = 1, 3
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def file(name: str, content: str | bytes = "new") -> Member:
    return name, tarfile.REGTYPE, content


def link(name: str, target: str) -> Member:
    return name, tarfile.SYMTYPE, target


def hard(name: str, target: str) -> Member:
    return name, tarfile.LNKTYPE, target


def directory(name: str) -> Member:
    return name, tarfile.DIRTYPE, ""


COMPRESSIONS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("plain", bytes),
    ("gzip", gzip.compress),
    ("bzip2", bz2.compress),
    ("xz", lzma.compress),
    ("zstd", zstandard.ZstdCompressor().compress),
    ("gzip-members", lambda d: gzip.compress(d[:700]) + gzip.compress(d[700:])),
    ("xz-padded", lambda d: lzma.compress(d) + bytes(64)),
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path).delta(BASE)


def add(source: str = "/a", dest: str = "/d", **options: object) -> Copy:
    return Copy(input=1, source=source, dest=dest, unpack=True, **options)  # type: ignore[arg-type]  # pyright: ignore


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("compress", [c for _, c in COMPRESSIONS], ids=[n for n, _ in COMPRESSIONS])
def test_archives_are_known_by_content(bench: Bench, compress: Callable[[bytes], bytes]) -> None:
    """ADD-1: whatever the name."""
    data = compress(tar(directory("x"), file("x/f", b"z" * 300_000)))
    tree = bench.context({"a": data}).run(add())
    assert tree["/d/x/f"].content == b"z" * 300_000


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(gzip.compress(b"just text"), id="E143"),
        pytest.param(b"", id="empty"),
        pytest.param(bytes(2048), id="zeros"),
        pytest.param(b"\x1f\x8b\x08broken", id="broken gzip"),
        pytest.param(tar(file("f"))[:300], id="shorter than a header"),
        pytest.param(tar(file("f")).replace(b"f", b"g", 1), id="bad checksum"),
    ],
)
def test_what_is_no_archive_is_copied(bench: Bench, data: bytes) -> None:
    """ADD-3."""
    tree = bench.context({"a": data}).run(add(dest="/d/"))
    assert tree["/d/a"].content == data


def test_the_first_block_tells_an_archive_from_text() -> None:
    """Also from text that is as long as a header, and from a number that is none."""
    header = tar(file("f"))[:512]
    text = (b"FROM scratch\n" * 64)[:512]
    assert is_archive(header)
    assert not is_archive(text)
    for stored in (b"        ", b"00000000", b"0x123456", bytes(8)):
        assert not is_archive(header[:148] + stored + header[156:])
    assert not is_archive(header[:511])
    # Old programs summed bytes with their signs.
    name = "é".encode().ljust(100, b"\0")
    total = sum(name + header[100:148] + b" " * 8 + header[156:])
    for checksum in (total, total - 256 * 2):
        assert is_archive(name + header[100:148] + b"%06o\0 " % checksum + header[156:])
    assert not is_archive(name + header[100:148] + b"%06o\0 " % (total + 1) + header[156:])


@pytest.mark.root
@needs_root
def test_entries_keep_their_look_and_chown_overrides_only_the_owner(bench: Bench) -> None:
    """ADD-2, E142, E144."""
    data = tar(directory("x"), file("x/f"), link("x/l", "f"), hard("x/h", "x/f"), xattr=True)
    tree = bench.context({"a": data}).run(
        add(dest="/one", mode=0o700),
        add(dest="/two/", owner=Owner(user="3")),
        Copy(input=1, source="/a", dest="/three/"),
    )
    entry = tree["/one/x/f"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (0o640, 7, 8, 4444 * 10**9)
    assert entry.xattrs == (("user.note", b"kept"),)
    assert tree["/one/x"].mtime_ns == 4444 * 10**9
    assert tree["/one/x/h"].ino == entry.ino
    assert (tree["/two/x/f"].uid, tree["/two/x/f"].gid, tree["/two"].uid) == (3, 3, 3)
    assert tree["/three/a"].content == data


@pytest.mark.root
@needs_root
def test_unpacking_merges_directories_and_replaces_the_rest(bench: Bench) -> None:
    bench.delta({"d/dir/old": "old", "d/file": "old", "d/was/x": "", "d/l": Link("/etc/passwd")})
    data = tar(
        directory("./"), file("dir/new"), file("file"), file("was"), file("l"), file(".wh.x")
    )
    tree = bench.context({"a": data}).run(add())
    contents = {p: s.content for p, s in tree.items() if s.kind == "-"}
    assert contents == {
        "/etc/passwd": b"base",
        "/d/dir/old": b"old",
        **{f"/d/{n}": b"new" for n in ("dir/new", "file", "was", "l", ".wh.x")},
    }
    assert tree["/d"].mode == 0o755


@pytest.mark.root
@needs_root
def test_later_entries_replace_earlier_ones(bench: Bench) -> None:
    data = tar(file("f", "1"), file("f", "2"), directory("x"), link("x", "/etc"), file("x/f", "3"))
    tree = bench.context({"a": data}).run(add())
    assert tree["/d/f"].content == b"2"
    assert tree["/d/etc/f"].content == b"3"
    assert "/etc/f" not in tree


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((file("../evil"),), 'entry "../evil" lies outside'),
        ((file("x/../../evil"),), "lies outside"),
        ((file("/../evil"),), "lies outside"),
        ((hard("h", "../etc/passwd"),), "lies outside"),
        ((hard("h", "/nope"),), "which is no file"),
        ((hard("h", "no/pe"),), "which is not there"),
        ((directory("x"), hard("h", "x")), "which is no file"),
        ((file("f"), file("f/g")), "to /d: cannot copy to non-directory: /f"),
    ],
)
def test_entries_that_would_leave_are_refused(
    bench: Bench, members: tuple[Member, ...], message: str
) -> None:
    """E156."""
    with pytest.raises(Fault) as caught:
        bench.context({"a": tar(*members)}).run(add())
    assert message in caught.value.message
    assert caught.value.kind == "user"


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    "members",
    [
        (link("out", "{outside}"), file("out/secret", "evil")),
        (link("out", "{outside}/secret"), file("out", "evil")),
        (link("up", "../../../../../../../.."), file("up{outside}/secret", "evil")),
        (link("a", "/"), link("b", "a/.."), file("b{outside}/secret", "evil")),
        (link("out", "{outside}"), hard("h", "out/secret"), file("h", "evil")),
        (link("x", "{outside}/secret"), hard("h", "x"), file("h", "evil")),
        (directory("{outside}"), file("{outside}/secret", "evil")),
    ],
)
def test_links_in_an_archive_never_lead_out_of_the_root(
    bench: Bench, tmp_path: Path, members: tuple[Member, ...]
) -> None:
    """E156: whatever becomes of it inside, the file of the host outside stays as it was."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host")
    real = [
        (name.format(outside=outside), kind, str(value).format(outside=outside))
        for name, kind, value in members
    ]
    try:
        tree = bench.context({"a": tar(*real)}).run(add())
    except Fault as fault:
        assert fault.kind == "user"
        tree = {}
    assert (outside / "secret").read_text() == "host"
    assert (outside / "secret").stat().st_nlink == 1
    assert not any(s.content == b"host" for s in tree.values())


@pytest.mark.root
@needs_root
@pytest.mark.parametrize(
    "later", [(link("x", "/there"),), (file("x"),), (file("x"), link("x", "there"), file("x/z"))]
)
def test_directories_that_were_replaced_leave_their_times_to_nobody(
    bench: Bench, later: tuple[Member, ...]
) -> None:
    """Times of directories are set at the end, when their names may mean something else."""
    bench.delta({"d/there/y/": Entry(mtime=77)})
    data = tar(directory("x"), directory("x/y"), *later)
    tree = bench.context({"a": data}).run(add())
    assert tree["/d/there/y"].mtime_ns == 77 * 10**9


@pytest.mark.root
@needs_root
def test_directories_that_were_made_again_have_times_of_their_own(bench: Bench) -> None:
    data = tar(
        directory("x"), directory("x/y"), file("x"), file("y"), link("x", "w"), file("x/y/f")
    )
    tree = bench.context({"a": data}).run(add())
    assert tree["/d/w/y"].mtime_ns != 4444 * 10**9


@pytest.mark.root
@needs_root
def test_links_of_the_base_are_followed_inside_it(bench: Bench) -> None:
    """The link /bin of a merged /usr stays, and files unpacked below it lie in /usr/bin, as with tar."""
    tree = bench.context({"a": tar(file("bin/tool"))}).run(add(dest="/"))
    assert tree["/usr/bin/tool"].content == b"new"
    assert tree["/bin"].kind == "l"


DAMAGES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("cut off", lambda d: d[: len(d) // 2]),
    ("bad header", lambda d: d[:1536] + b"garbage" * 100 + d[1536 + 700 :]),
    ("gzip cut off", lambda d: gzip.compress(d)[:-40]),
    ("gzip checksum", lambda d: gzip.compress(d)[:-8] + bytes(8)),
]


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("damage", [d for _, d in DAMAGES], ids=[n for n, _ in DAMAGES])
def test_damage_behind_a_good_beginning_fails(
    bench: Bench, damage: Callable[[bytes], bytes]
) -> None:
    """ADD-3."""
    data = damage(tar(file("one", "x" * 600), file("two", os.urandom(9000)), file("three")))
    with pytest.raises(Fault, match='^cannot unpack "/a": ') as caught:
        bench.context({"a": data}).run(add())
    assert caught.value.kind == "user"


@pytest.mark.root
@needs_root
def test_a_bomb_does_not_fill_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """ADD-2: what an archive unpacks to ends before the disk does."""

    class Small:
        f_bavail, f_frsize = 100, 4096

    def small(fd: int) -> Small:
        return Small()

    monkeypatch.setattr(os, "fstatvfs", small)
    bomb = gzip.compress(tar(file("zeros", bytes(1 << 20))))
    with pytest.raises(Fault, match="goes on after 389120 bytes") as caught:
        bench.context({"a": bomb}).run(add())
    assert caught.value.kind == "environment"


@pytest.mark.root
@needs_root
def test_devices_and_fifos(bench: Bench) -> None:
    data = tar(("dev", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, ""))
    tree = bench.context({"a": data}).run(add())
    assert (tree["/d/dev"].kind, tree["/d/pipe"].kind) == ("c", "p")


@pytest.mark.root
@needs_root
def test_directory_of_the_same_name_as_an_archive_is_copied(bench: Bench) -> None:
    tree = bench.context({"a/f": Entry("x")}).run(add())
    assert tree["/d/f"].content == b"x"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=900), st.sampled_from([b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"]))
def test_any_bytes_are_either_an_archive_or_not(body: bytes, magic: bytes) -> None:
    fd = os.memfd_create("archive")
    try:
        os.write(fd, magic + body)
        read = open_archive(fd)
        while read is not None:
            try:
                if not read():
                    break
            except Damaged:
                break
    finally:
        os.close(fd)
