"""Writing layers: what is in the tar, in which order, and that bytes repeat [IMG-12..16, REP-4]."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from pybuild.image.layer import confined, tarformat
from pybuild.image.layer.layertar import layer_job
from pybuild.image.layer.orders import BlobOrder, LayerBlob
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault, UserError

from .trees import layer_of, look, root_only, unpack, void, whiteout


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def names(data: bytes) -> list[str]:
    return list(members(data))


def test_empty_delta_is_an_empty_tar(tmp_path: Path) -> None:
    """A RUN that changes nothing still yields a layer [CFG]."""
    assert layer_of(tmp_path) == bytes(1024)


def test_entries_are_sorted_and_parents_come_first(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a/b/c", "a-1", "a.b"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert names(layer_of(tmp_path)) == ["a", "a/b", "a/b/c", "a/z", "a-1", "a.b", "b"]


@root_only
def test_whiteouts_come_before_siblings_and_the_opaque_marker_before_both(tmp_path: Path) -> None:
    """[IMG-12, REP-4]; hard-linked whiteouts, as the kernel makes them, stay whiteouts."""
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", "trusted.overlay.opaque", b"y")
    (tmp_path / "d" / "+first").write_bytes(b"")
    whiteout(tmp_path / "d" / "z")
    os.link(tmp_path / "d" / "z", tmp_path / "d" / "gone")
    data = layer_of(tmp_path)
    assert names(data) == ["d", "d/.wh..wh..opq", "d/.wh.gone", "d/.wh.z", "d/+first"]
    for name in ("d/.wh..wh..opq", "d/.wh.gone", "d/.wh.z"):
        member = members(data)[name]
        assert (member.type, member.size, member.mtime) == (tarfile.REGTYPE, 0, 0)
    assert not members(data)["d"].pax_headers


@root_only
def test_opaque_attribute_of_user_namespaces(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", "user.overlay.opaque", b"y")
    os.setxattr(tmp_path / "d", "user.overlay.origin", b"\0\1")
    os.setxattr(tmp_path / "d", "user.overlay.overlay.opaque", b"x")
    data = layer_of(tmp_path, userxattr=True)
    assert names(data) == ["d", "d/.wh..wh..opq"]
    assert members(data)["d"].pax_headers == {"SCHILY.xattr.user.overlay.opaque": "x"}
    # With trusted.* in charge these are a user's own attributes.
    assert names(layer_of(tmp_path)) == ["d"]


def test_hard_links_go_to_the_first_path_in_the_archive(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"data")
    os.link(tmp_path / "b" / "x", tmp_path / "c")
    os.link(tmp_path / "b" / "x", tmp_path / "a")
    found = members(layer_of(tmp_path))
    assert found["a"].isreg() and found["a"].size == 4
    assert (found["b/x"].linkname, found["c"].linkname) == ("a", "a")
    assert found["c"].type == tarfile.LNKTYPE


def test_link_to_a_file_outside_the_delta_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"data")
    os.link(tmp_path / "d" / "x", tmp_path / "outside")
    assert members(layer_of(tmp_path / "d"))["x"].isreg()


def test_sockets_are_left_out(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
    finally:
        os.chdir(here)
    assert names(layer_of(tmp_path)) == []


def test_times_are_whole_seconds_and_clamped(tmp_path: Path) -> None:
    """[REP-3]: later than the epoch becomes the epoch, earlier stays."""
    for name, time_ns in (("new", 2_000_000_000_999_999_999), ("old", 1_500_000_000)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, ns=(time_ns, time_ns))
    found = members(layer_of(tmp_path))
    assert (found["new"].mtime, found["old"].mtime) == (2_000_000_000, 1)
    assert not found["new"].pax_headers
    found = members(layer_of(tmp_path, clamp_mtime=1000))
    assert (found["new"].mtime, found["old"].mtime) == (1000, 1)


@pytest.mark.root
def test_times_before_1970_need_pax(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    os.utime(tmp_path / "x", ns=(-1_500_000_000, -1_500_000_000))
    data = layer_of(tmp_path)
    assert members(data)["x"].mtime == -2
    unpack(data, tmp_path / "out")
    assert (tmp_path / "out" / "x").stat().st_mtime == -2


def test_user_file_named_like_a_whiteout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".wh.x").write_bytes(b"")
    with pytest.raises(UserError, match=r'^"d/\.wh\.x" cannot be stored in an image') as caught:
        layer_of(tmp_path)
    assert caught.value.hints == ("remove or rename it in the step that makes it",)


@root_only
@pytest.mark.parametrize("word", ["redirect", "metacopy", "whiteout"])
@pytest.mark.parametrize("kind", ["file", "dir"])
def test_upper_that_only_the_kernel_can_read_is_refused(
    tmp_path: Path, word: str, kind: str
) -> None:
    path = tmp_path / "x"
    path.mkdir() if kind == "dir" else void(path.write_bytes(b""))
    os.setxattr(path, f"trusted.overlay.{word}", b"/etc")
    with pytest.raises(EnvironmentFault, match=f"trusted.overlay.{word}: it cannot become a layer"):
        layer_of(tmp_path)


@root_only
def test_only_the_images_own_xattrs_go_out(tmp_path: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    path = tmp_path / "x"
    path.write_bytes(b"")
    os.setxattr(path, "user.note", b"a=b\nc\0d")
    os.setxattr(path, "security.capability", capability)
    os.setxattr(path, "trusted.secret", b"1")
    os.setxattr(path, "trusted.overlay.origin", b"1")
    data = layer_of(tmp_path)
    assert b"trusted" not in data
    assert b"SCHILY.xattr.security.capability=" + capability in data
    unpack(data, tmp_path / "out")
    assert os.getxattr(tmp_path / "out" / "x", "security.capability") == capability
    assert os.getxattr(tmp_path / "out" / "x", "user.note") == b"a=b\nc\0d"


def test_creation_order_does_not_count(tmp_path: Path) -> None:
    entries = [f"d{n % 3}/f{n}" for n in range(40)]
    archives: list[bytes] = []
    for where, order in (("one", entries), ("two", entries[::-1])):
        root = tmp_path / where
        for name in order:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        for path in [*root.rglob("*")]:
            os.utime(path, (1, 1))
        archives.append(layer_of(root))
    assert archives[0] == archives[1]


@pytest.mark.slow
def test_deep_trees_need_no_descriptors_and_no_recursion(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    out = tmp_path.with_name(tmp_path.name + "-out")
    out.mkdir()
    parent = os.open(tmp_path.parent, os.O_RDONLY)
    try:
        data = layer_of(tmp_path)
        assert max(len(name) for name in names(data)) == 2199
        unpack(data, out)
        assert layer_of(out) == data
    finally:
        for path in (tmp_path, out):
            confined.remove(parent, os.fsencode(path.name))
        os.close(parent)
    assert not out.exists()


LONG = [
    ("a" * 100, False),
    ("a" * 101, True),
    ("p" * 60 + "/" + "n" * 60, False),
    ("p" * 155 + "/" + "n" * 100, False),
    ("p" * 155 + "/" + "n" * 101, True),
    ("p" * 99 + "/" + "q" * 99 + "/" + "n" * 100, True),
    ("é" * 51, True),
]


@pytest.mark.root
@pytest.mark.parametrize(("name", "extended"), LONG)
def test_long_names_use_the_prefix_and_then_pax(tmp_path: Path, name: str, extended: bool) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    data = layer_of(tmp_path / "in")
    assert members(data)[name].isreg()
    assert bool(members(data)[name].pax_headers) is extended
    unpack(data, tmp_path / "out")
    assert look(tmp_path / "out") == look(tmp_path / "in")


def test_pax_record_lengths_count_their_own_digits() -> None:
    for size in (*range(75, 110), *range(975, 1010), 9980, 9988, 9990, 9999):
        data = tarformat.entry(b"x", b"0", xattrs={"user.a": b"v" * size}) + tarformat.END
        found = members(data)["x"].pax_headers["SCHILY.xattr.user.a"]
        assert len(found) == size


@root_only
def test_huge_ids_go_to_pax(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    os.chown(tmp_path / "x", 0o7777777, 4_000_000_000)
    member = members(layer_of(tmp_path))["x"]
    assert (member.uid, member.gid) == (0o7777777, 4_000_000_000)
    assert member.pax_headers == {"gid": "4000000000"}


@pytest.mark.root
def test_odd_names_survive(tmp_path: Path) -> None:
    odd = [b"\xff\xfe", "ünï".encode(), b"new\nline", b"back\\slash", b" ", b"-rf", b"x" * 255]
    odd += [b"\xe9" * 120]
    for name in odd:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    data = layer_of(tmp_path)
    out = tmp_path.with_name(tmp_path.name + "-out")
    unpack(data, out)
    assert look(out) == look(tmp_path)


def test_gnu_tar_reads_our_layers(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / ("deep" * 40)).mkdir(parents=True)
    (root / ("deep" * 40) / ("n" * 120)).write_bytes(b"x" * 3000)
    (root / "link").symlink_to("l" * 150)
    os.link(root / ("deep" * 40) / ("n" * 120), root / "hard")
    os.chmod(root / "hard", 0o4755)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(
        ["tar", "-xp", "-f", "-", "-C", str(out)], input=layer_of(root), check=True, timeout=30
    )
    assert look(out) == look(root)


def job(path: Path, out: Path, compression: str = "gzip") -> LayerBlob:
    return layer_job(WorkerCall(), str(path), BlobOrder(str(out), compression))


def test_job_leaves_no_file_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".wh.x").write_bytes(b"")
    with pytest.raises(UserError):
        job(tmp_path / "d", tmp_path / "blob")
    assert not (tmp_path / "blob").exists()
    with pytest.raises(ValueError, match='compression "lzma": expected one of gzip, zstd'):
        job(tmp_path / "d", tmp_path / "blob", compression="lzma")
    assert not (tmp_path / "blob").exists()


@pytest.mark.slow
def test_job_writes_the_same_blob_twice_and_says_its_digests(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(os.urandom(2_500_000) + bytes(2_000_000))
    for compression in ("gzip", "zstd", "uncompressed"):
        first = job(tmp_path / "d", tmp_path / f"{compression}1", compression=compression)
        again = job(tmp_path / "d", tmp_path / f"{compression}2", compression=compression)
        assert first == again
        blob = (tmp_path / f"{compression}1").read_bytes()
        assert blob == (tmp_path / f"{compression}2").read_bytes()
        assert first.size == len(blob)
        assert first.uncompressed_size == len(layer_of(tmp_path / "d"))


def test_setuid_and_sticky_bits_are_kept(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"")
    os.chmod(tmp_path / "s", 0o6755)
    assert members(layer_of(tmp_path))["s"].mode == 0o6755
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o6755


@pytest.mark.parametrize("kind", [b"0", b"1", b"2", b"3", b"5", b"L"])
def test_checksums_are_right_for_bytes_as_large_as_can_be(kind: bytes) -> None:
    """IMG-16: they are added up in parts that cannot overflow what adds them."""
    most = 0o77777777777
    data = tarformat.entry(
        b"\xff" * 155 + b"/" + b"\xff" * 100,
        kind,
        mode=0o7777,
        uid=0o7777777,
        gid=0o7777777,
        size=most,
        mtime=most,
        link=b"\xff" * 100,
        major=0o7777777,
        minor=0o7777777,
    )
    assert len(data) == tarformat.BLOCK
    assert int(data[148:154], 8) == sum(data[:148]) + 8 * 32 + sum(data[156:])
