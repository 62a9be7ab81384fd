"""Applying layers: the delta that comes out is what overlayfs would hold [IMG-12..17]."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.image.layer.apply import NeedsLowers, apply_job
from pybuild.image.layer.orders import LowersMissing, UnpackedLayer, UnpackOrder
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault

from .trees import is_opaque, is_whiteout, layer_of, look, root_only, unpack, whiteout

Spec = tuple[str, str, int, bytes]


def tar_of(*entries: tarfile.TarInfo | tuple[str, str] | str) -> bytes:
    """Make a tar by Python's own writer: ``"d/"``, ``"file"``, ``("file", content)``, TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            name, content = (entry, "") if isinstance(entry, str) else entry
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mode = 0o755 if name.endswith("/") else 0o644
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def info(name: str, kind: bytes, link: str = "", **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = link
    for key, value in fields.items():
        setattr(made, key, value)
    return made


# --- the round trip -------------------------------------------------------------------------------

_NAMES = st.sampled_from(["a", "b", "ü", "x" * 120, "\udcff", "c d", ".wh", "-"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_KINDS = st.sampled_from(
    ["file", "dir", "symlink", "hardlink", "fifo", "device", "whiteout", "opaque", "xattr"]
)
_SPECS = st.lists(
    st.tuples(_PATHS, _KINDS, st.integers(0, 0o7777), st.binary(max_size=700)), max_size=14
)


def plant(root: Path, specs: list[Spec]) -> None:
    """Make an arbitrary delta; specs that do not fit what is there are passed over."""
    made: list[Path] = []
    for name, kind, mode, data in specs:
        path = root / name
        # Never write through what was planted: links lead anywhere, reading a FIFO waits for ever.
        ways = [way for way in path.parents if root in way.parents]
        if os.path.lexists(path) or any(os.path.lexists(w) and not is_dir(w) for w in ways):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(data)
        elif kind in ("dir", "opaque"):
            path.mkdir()
            if kind == "opaque":
                os.setxattr(path, "trusted.overlay.opaque", b"y")
        elif kind == "symlink":
            path.symlink_to(os.fsdecode(data.replace(b"\0", b"/")[:300] or b"."))
        elif kind == "hardlink" and made:
            os.link(made[mode % len(made)], path, follow_symlinks=False)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, mode))
        elif kind == "whiteout":
            whiteout(path)
        elif kind == "xattr":
            path.write_bytes(b"")
            os.setxattr(path, "user.x", data)
        else:
            continue
        if kind not in ("symlink", "hardlink", "whiteout"):
            os.chown(path, mode, len(data) * 7919)
            os.chmod(path, mode)
        if kind not in ("dir", "opaque", "whiteout"):
            made.append(path)
        os.utime(path, (mode, mode), follow_symlinks=False)


def is_dir(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


@root_only
@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_SPECS)
def test_apply_undoes_diff(specs: list[Spec]) -> None:
    """apply(diff(tree)) is the tree, and its diff has the same bytes."""
    base = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        (base / "in").mkdir()
        plant(base / "in", specs)
        data = layer_of(base / "in")
        unpack(data, base / "out")
        assert look(base / "out") == look(base / "in")
        assert layer_of(base / "out") == data
    finally:
        shutil.rmtree(base)


# --- markers --------------------------------------------------------------------------------------


@root_only
def test_whiteouts_and_opaque_markers_take_overlay_form(tmp_path: Path) -> None:
    unpack(tar_of("d/", "d/.wh.gone", "d/e/", "d/e/.wh..wh..opq", "d/e/new"), tmp_path / "o")
    assert is_whiteout(tmp_path / "o/d/gone")
    assert is_opaque(tmp_path / "o/d/e") and not is_opaque(tmp_path / "o/d")
    assert (tmp_path / "o/d/e/new").is_file()


@root_only
def test_opaque_marker_of_user_namespaces(tmp_path: Path) -> None:
    unpack(tar_of("d/", "d/.wh..wh..opq"), tmp_path / "o", userxattr=True)
    assert is_opaque(tmp_path / "o/d", userxattr=True)


@root_only
@pytest.mark.parametrize("order", [("d/x", "d/.wh.x"), ("d/.wh.x", "d/x")])
def test_whiteout_does_not_delete_what_its_own_layer_brings(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    """[IMG-12]: only lower layers' files are hidden, whatever the order in the tar."""
    unpack(tar_of("d/", *order), tmp_path / "o")
    assert stat.S_ISREG((tmp_path / "o/d/x").lstat().st_mode)


@root_only
@pytest.mark.parametrize("order", [("x/", ".wh.x"), (".wh.x", "x/"), (".wh.x", "x/", "x/")])
def test_whiteout_and_directory_of_one_name_make_an_opaque_directory(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    unpack(tar_of(*order), tmp_path / "o")
    assert is_opaque(tmp_path / "o/x")


@root_only
def test_whiteout_then_entries_below_without_a_directory_entry(tmp_path: Path) -> None:
    unpack(tar_of(".wh.x", "x/y"), tmp_path / "o")
    assert is_opaque(tmp_path / "o/x") and (tmp_path / "o/x/y").is_file()


@root_only
def test_opaque_root_hides_everything_below(tmp_path: Path) -> None:
    unpack(tar_of("a/", "b", "c/"), tmp_path / "low", lowers=[])
    with pytest.raises(NeedsLowers):
        unpack(tar_of(".wh..wh..opq"), tmp_path / "n")
    unpack(tar_of("a/", ".wh..wh..opq", "b"), tmp_path / "o", lowers=[tmp_path / "low"])
    assert is_opaque(tmp_path / "o/a") and is_whiteout(tmp_path / "o/c")
    assert (tmp_path / "o/b").is_file()


@pytest.mark.root
def test_aufs_leftovers_are_passed_over(tmp_path: Path) -> None:
    unpack(tar_of(".wh..wh.aufs", ".wh..wh.plnk/", ".wh..wh.plnk/1.2", "x"), tmp_path / "o")
    assert os.listdir(tmp_path / "o") == ["x"]


# --- what the layer leaves out ----------------------------------------------------------------


@root_only
def test_implied_parents_look_like_the_ones_below(tmp_path: Path) -> None:
    parent = info("a", tarfile.DIRTYPE, mode=0o1770, uid=5, gid=6, mtime=77)
    parent.pax_headers = {"SCHILY.xattr.user.k": "v"}
    unpack(tar_of(parent), tmp_path / "low", lowers=[])
    with pytest.raises(NeedsLowers, match="/a"):
        unpack(tar_of("a/x"), tmp_path / "n")
    unpack(tar_of("a/x"), tmp_path / "o", lowers=[tmp_path / "low"])
    status = (tmp_path / "o/a").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o1770, 5, 6)
    assert status.st_mtime == 77
    assert os.getxattr(tmp_path / "o/a", "user.k") == b"v"


@pytest.mark.root
def test_implied_parents_of_a_base_layer_are_plain(tmp_path: Path) -> None:
    unpack(tar_of("a/b/x"), tmp_path / "o", lowers=[])
    status = (tmp_path / "o/a/b").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 0)


@root_only
def test_implied_parent_does_not_see_what_upper_layers_deleted(tmp_path: Path) -> None:
    unpack(tar_of(info("a", tarfile.DIRTYPE, mode=0o700)), tmp_path / "1", lowers=[])
    unpack(tar_of(".wh.a"), tmp_path / "2", lowers=[])
    unpack(tar_of("a/x"), tmp_path / "o", lowers=[tmp_path / "1", tmp_path / "2"])
    assert stat.S_IMODE((tmp_path / "o/a").stat().st_mode) == 0o755


@pytest.mark.root
def test_parents_that_are_links_below_are_followed_inside_the_root(tmp_path: Path) -> None:
    """Layers made for a merged /usr say lib/x and mean usr/lib/x."""
    low = tar_of("usr/", "usr/lib/", info("lib", tarfile.SYMTYPE, "/usr/lib"))
    unpack(low, tmp_path / "low", lowers=[])
    unpack(tar_of("lib/x", "lib/y/z"), tmp_path / "o", lowers=[tmp_path / "low"])
    assert (tmp_path / "o/usr/lib/x").is_file() and (tmp_path / "o/usr/lib/y/z").is_file()
    assert not (tmp_path / "o/lib").exists()


@root_only
def test_hard_link_to_a_lower_file_copies_it_up(tmp_path: Path) -> None:
    """[IMG-15]"""
    file = info("d/f", tarfile.REGTYPE, mode=0o4711, uid=3, gid=4, mtime=9)
    unpack(tar_of("d/", file), tmp_path / "low", lowers=[])
    (tmp_path / "low/d/f").write_bytes(b"content")
    os.chmod(tmp_path / "low/d/f", 0o4711)
    os.utime(tmp_path / "low/d/f", (9, 9))
    layer = tar_of(info("g", tarfile.LNKTYPE, "d/f"))
    with pytest.raises(NeedsLowers, match="/d"):
        unpack(layer, tmp_path / "n")
    unpack(layer, tmp_path / "o", lowers=[tmp_path / "low"])
    status = (tmp_path / "o/g").stat()
    assert status.st_ino == (tmp_path / "o/d/f").stat().st_ino
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (0o4711, 3, 9)
    assert (tmp_path / "o/g").read_bytes() == b"content"


# --- replacing, order, times ---------------------------------------------------------------------


@pytest.mark.root
def test_later_entry_of_a_name_replaces_the_earlier(tmp_path: Path) -> None:
    """[IMG-14]; a directory that comes in a file's place shows nothing from below."""
    data = tar_of("a/", "a/x", ("a", "now a file"), ("b", "1"), ("b", "2"), "c", "c/", "c/y")
    unpack(data, tmp_path / "o")
    assert (tmp_path / "o/a").read_text() == "now a file"
    assert (tmp_path / "o/b").read_text() == "2"
    assert (tmp_path / "o/c/y").is_file()
    if os.geteuid() == 0:
        assert is_opaque(tmp_path / "o/c")


@pytest.mark.root
def test_directory_over_directory_keeps_contents(tmp_path: Path) -> None:
    again = info("a", tarfile.DIRTYPE, mode=0o700)
    unpack(tar_of("a/", "a/x", again), tmp_path / "o")
    assert (tmp_path / "o/a/x").is_file()
    assert stat.S_IMODE((tmp_path / "o/a").stat().st_mode) == 0o700


@pytest.mark.root
def test_directory_times_survive_later_entries(tmp_path: Path) -> None:
    inner = info("a", tarfile.DIRTYPE, mtime=11, mode=0o755)
    root = info("./", tarfile.DIRTYPE, mtime=12, mode=0o750)
    unpack(tar_of(root, inner, "a/x", "b", ("a/y", "z")), tmp_path / "o")
    assert (tmp_path / "o/a").stat().st_mtime == 11
    assert (tmp_path / "o").stat().st_mtime == 12
    assert stat.S_IMODE((tmp_path / "o").stat().st_mode) == 0o750


@pytest.mark.root
def test_nanoseconds_of_pax_are_kept(tmp_path: Path) -> None:
    entry = info("x", tarfile.REGTYPE, mtime=5)
    entry.pax_headers = {"mtime": "1700000000.123456789"}
    unpack(tar_of(entry), tmp_path / "o")
    assert (tmp_path / "o/x").stat().st_mtime_ns == 1700000000123456789


@pytest.mark.root
def test_absolute_and_untidy_names_are_made_relative(tmp_path: Path) -> None:
    unpack(tar_of("/a/", "./a//b", "a/./c"), tmp_path / "o")
    assert sorted(os.listdir(tmp_path / "o/a")) == ["b", "c"]


@root_only
def test_attributes_that_command_overlayfs_are_defused(tmp_path: Path) -> None:
    entry = info("d", tarfile.DIRTYPE, mode=0o755)
    entry.pax_headers = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "label",
    }
    unpack(tar_of(entry), tmp_path / "o", userxattr=True)
    assert os.listxattr(tmp_path / "o/d") == ["user.overlay.overlay.opaque"]
    assert os.listxattr(tmp_path / "o") == []


# --- formats of others ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_python_tars_are_read(tmp_path: Path, form: int) -> None:
    root = tmp_path / "in"
    (root / ("n" * 150) / ("m" * 150)).mkdir(parents=True)
    (root / "link").symlink_to("t" * 180)
    (root / "file").write_bytes(b"1" * 5000)
    os.link(root / "file", root / "hard")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.add(root, ".")
    unpack(out.getvalue(), tmp_path / "out")
    assert look(tmp_path / "out") == look(root)


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_gnu_tar_is_read(tmp_path: Path, form: str) -> None:
    root = tmp_path / "in"
    deep = "" if form == "v7" else "n" * 90 + "/"
    (root / f"{deep}d").mkdir(parents=True)
    (root / f"{deep}d/file").write_bytes(b"1" * 1500)
    (root / "link").symlink_to("target")
    made = subprocess.run(
        ["tar", "-c", f"--format={form}", "-C", str(root), "."],
        capture_output=True,
        check=True,
        timeout=30,
    )
    unpack(made.stdout, tmp_path / "out")
    assert look(tmp_path / "out") == look(root)


@root_only
def test_base_256_numbers_are_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info("x", tarfile.REGTYPE, uid=3_000_000, gid=4_000_000_000, mtime=-5))
    unpack(out.getvalue(), tmp_path / "out")
    status = (tmp_path / "out/x").stat()
    assert (status.st_uid, status.st_gid, status.st_mtime) == (3_000_000, 4_000_000_000, -5)


@root_only
def test_owners_and_modes_hold_whatever_files_are_born_with(tmp_path: Path) -> None:
    """The umask takes bits away, and a directory with set-group-id gives its group on."""
    data = tar_of(
        info("d", tarfile.DIRTYPE, mode=0o2770, gid=7),
        info("d/open", tarfile.REGTYPE, mode=0o666),
        info("d/own", tarfile.REGTYPE, mode=0o6755, uid=5, gid=6),
        info("d/closed", tarfile.REGTYPE, mode=0),
        info("d/sub", tarfile.DIRTYPE, mode=0o777),
    )
    before = os.umask(0o077)
    try:
        unpack(data, tmp_path / "out")
    finally:
        os.umask(before)
    found = {path.name: path.stat() for path in (tmp_path / "out").rglob("*")}
    assert {name: (s.st_uid, s.st_gid, s.st_mode & 0o7777) for name, s in found.items()} == {
        "d": (0, 7, 0o2770),
        "open": (0, 0, 0o666),
        "own": (5, 6, 0o6755),
        "closed": (0, 0, 0),
        "sub": (0, 0, 0o777),
    }


# --- the job --------------------------------------------------------------------------------------


def run_job(tmp_path: Path, blob: bytes, **args: Any) -> UnpackedLayer | LowersMissing:
    (tmp_path / "blob").write_bytes(blob)
    (tmp_path / "target").mkdir(exist_ok=True)
    order = UnpackOrder(str(tmp_path / "target"), str(tmp_path / "blob"))
    return apply_job(WorkerCall(), order._replace(**args))


@pytest.mark.root
def test_job_names_both_digests_when_they_differ(tmp_path: Path) -> None:
    data = tar_of("a")
    wrong = "sha256:" + "0" * 64
    with pytest.raises(EnvironmentFault, match=f"uncompressed layer {wrong}: got sha256:"):
        run_job(tmp_path, data, diff_id=wrong)
    with pytest.raises(EnvironmentFault, match=f"layer blob {wrong}: got sha256:"):
        run_job(tmp_path, data, digest=wrong)
    with pytest.raises(EnvironmentFault, match="layer blob has 10240 bytes, expected 7"):
        run_job(tmp_path, data, size=7)
    assert os.listdir(tmp_path / "target") == []


@pytest.mark.root
def test_job_that_needs_lowers_leaves_an_empty_target(tmp_path: Path) -> None:
    result = run_job(tmp_path, tar_of("x", "a/b/c"), lowers=None)
    assert result == LowersMissing("/a") and isinstance(result, LowersMissing)
    assert os.listdir(tmp_path / "target") == []
    assert isinstance(run_job(tmp_path, tar_of("x", "a/b/c"), lowers=[]), UnpackedLayer)


@pytest.mark.root
def test_job_reads_from_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(tar_of("x"))
    (tmp_path / "t").mkdir()
    fd = os.open(tmp_path / "blob", os.O_RDONLY)
    try:
        result = apply_job(WorkerCall([fd]), UnpackOrder(str(tmp_path / "t"), lowers=[]))
    finally:
        os.close(fd)
    assert isinstance(result, UnpackedLayer)
    assert result.size == 10240
    assert os.listdir(tmp_path / "t") == ["x"]
