"""Notes about owners and devices, which a file system could not be told."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pybuild.image.layer import overlayfs, ownership
from pybuild.image.layer.layertar import write_layer
from pybuild.image.layer.pieces import Chunker

from .trees import root_only


@pytest.mark.parametrize(
    "value",
    [b"", b"1", b"1:", b":1", b"-1:0", b"1:2:3", b"4294967295:0", b"1 :2", b"9" * 30 + b":1"],
)
def test_owners_that_do_not_parse_count_as_none(value: bytes) -> None:
    assert ownership.parse_owner(value) is None


@pytest.mark.parametrize("value", [b"c:0:0", b"x:1:1", b"c:1", b"b:99999:1", b"c:1:2:3", b"c::"])
def test_devices_that_do_not_parse_or_would_hide_files_count_as_none(value: bytes) -> None:
    assert ownership.parse_node(value) is None


def test_notes_of_files_and_lists_of_links_reach_the_layer(tmp_path: Path) -> None:
    delta = tmp_path / "fs"
    delta.mkdir()
    (delta / "f").write_text("x")
    (delta / "l").symlink_to("f")
    fd = os.open(delta, os.O_RDONLY)
    try:
        ledger = ownership.OwnershipNotes()
        ledger.give(fd, "f", 33, 44)
        ledger.give(fd, "l", 5, 6)
        ownership.make_node(fd, "n", stat.S_IFBLK | 0o600, os.makedev(8, 17))
        ledger.give(fd, "n", 0, 7)
        ledger.save(str(delta))
    except OSError as error:
        pytest.skip(f"no user attributes here: {error.strerror}")
    finally:
        os.close(fd)
    out = io.BytesIO()
    write_layer(str(delta), Chunker.into(out.write), userxattr=True)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        found = {m.name: (m.type, m.uid, m.gid, m.devmajor, m.pax_headers) for m in tar}
    assert found["f"] == (b"0", 33, 44, 0, {})
    assert found["l"] == (b"2", 5, 6, 0, {})
    assert found["n"] == (b"4", 0, 7, 8, {})


@root_only
def test_owners_that_the_kernel_can_have_are_given_at_once(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").touch()
    (tmp_path / "d/l").symlink_to("f")
    notes = ownership.OwnershipNotes(notes_owners=False)
    fd = os.open(tmp_path / "d", os.O_RDONLY)
    try:
        notes.give(fd, None, 33, 44)
        notes.give(fd, "l", 5, 6)
    finally:
        os.close(fd)
    found = [os.lstat(tmp_path / name) for name in ("d", "d/l", "d/f")]
    assert [(one.st_uid, one.st_gid) for one in found] == [(33, 44), (5, 6), (0, 0)]


def test_what_is_gone_meanwhile_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    status = os.stat(tmp_path / "f")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert ownership.OwnershipNotes().view(fd, "gone", status) is status
    finally:
        os.close(fd)


@pytest.mark.parametrize(("error", "is_noted"), [(None, False), (errno.ENOTSUP, True)])
def test_a_directory_is_opaque_by_an_attribute_or_by_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None, is_noted: bool
) -> None:
    own, real = overlayfs.namespace(True), os.setxattr

    def set_attribute(fd: int, name: str, value: bytes) -> None:
        if error is not None and name.startswith(own):
            raise OSError(error, os.strerror(error))
        real(fd, name, value)

    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        monkeypatch.setattr(os, "setxattr", set_attribute)
        try:
            overlayfs.set_opaque(fd, own)
        except OSError as failed:
            pytest.skip(f"no user attributes here: {failed.strerror}")
        assert overlayfs.is_opaque(fd, own, noted=False) != is_noted
        assert overlayfs.is_opaque(fd, own, noted=True)
    finally:
        os.close(fd)


def test_an_attribute_that_cannot_be_set_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, name: str, value: bytes) -> None:
        raise OSError(errno.ENOSPC, name)

    monkeypatch.setattr(os, "setxattr", refuse)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"user\.overlay\.opaque"):
            overlayfs.set_opaque(fd, overlayfs.namespace(True))
    finally:
        os.close(fd)


def test_lists_with_strange_names_survive_and_ways_out_do_not(tmp_path: Path) -> None:
    delta = str(tmp_path / "fs")
    owners = {b"a:b\n\xff/c": (1, 2), b"../up": (3, 4), b"d/../../up": (5, 6)}
    ownership.write_list(delta, owners)
    assert ownership.read_list(delta) == {b"a:b\n\xff/c": (1, 2)}


def test_lines_of_a_list_that_are_none_are_passed_over(tmp_path: Path) -> None:
    lines = (b"x:1:no number", b"1:2:", b"1:2", b"-1:2:below nothing", b"3:4:kept", b"")
    (tmp_path / f"fs{ownership.LIST_SUFFIX}").write_bytes(b"\0".join(lines))
    assert ownership.read_list(f"{tmp_path}/fs/") == {b"kept": (3, 4)}
    assert ownership.read_list(str(tmp_path / "none")) == {}


def test_notes_are_never_attributes_of_an_image() -> None:
    for own in (overlayfs.namespace(True), overlayfs.namespace(False)):
        assert overlayfs.to_image([ownership.OWNER, ownership.NODE, "user.x"], own) == [
            ("user.x", "user.x")
        ]
        assert overlayfs.to_disk(ownership.OWNER, own) is None
