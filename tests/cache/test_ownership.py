"""Paths that another user could exchange: found by who owns what leads there."""

from __future__ import annotations

import errno
import os
import pwd
import struct
from pathlib import Path

import pytest

from pybuild.cache.disk.ownership import (
    doubt,
    doubt_of_file,
    is_private,
    is_trusted,
    refuses,
    warning_of_key,
)

STRANGER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of root's, in which anything can belong to anybody."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    (tmp_path / "d/store").mkdir(parents=True)
    return tmp_path


def test_what_is_ours_all_the_way_is_not_doubted(place: Path) -> None:
    assert not doubt(str(place / "d/store"))
    assert not doubt(str(place / "d/./store/../store"))
    assert not doubt(str(place / "d/none/below"))


def test_the_last_directory_is_its_users_own_matter(place: Path) -> None:
    os.chown(place / "d/store", STRANGER, 0)
    assert not doubt(str(place / "d/store"))
    reason = doubt(str(place / "d/store/x"))
    assert str(place / "d/store") in reason.text and str(STRANGER) in reason.text
    assert not reason.planted
    assert refuses(reason)


def test_who_may_write_a_directory_may_change_its_names(place: Path) -> None:
    (place / "d").chmod(0o757)
    assert doubt(str(place / "d/store")).text == f"{place / 'd'} can be changed by everybody"
    (place / "d").chmod(0o775)
    assert not doubt(str(place / "d/store"))  # root's own group
    gid = next(user.pw_gid for user in pwd.getpwall() if user.pw_uid and user.pw_gid)
    os.chown(place / "d", 0, gid)
    assert doubt(str(place / "d/store")).text == f"{place / 'd'} can be changed by group {gid}"
    (place / "d").chmod(0o755)
    assert not doubt(str(place / "d/store"))


def test_under_a_sticky_bit_names_are_their_owners(place: Path) -> None:
    (place / "d").chmod(0o1777)
    assert not doubt(str(place / "d/store"))


def test_a_link_of_a_stranger_was_planted(place: Path) -> None:
    (place / "link").symlink_to("d")
    assert not doubt(str(place / "link/store"))
    os.lchown(place / "link", STRANGER, 0)
    reason = doubt(str(place / "link/store"))
    assert reason.planted
    assert reason.text.startswith(f"{place / 'link'} is a link of ")


def test_links_are_followed_to_what_they_lead_to(place: Path) -> None:
    (place / "other").mkdir()
    (place / "other").chmod(0o777)
    (place / "d/absolute").symlink_to(place / "other")
    (place / "d/relative").symlink_to("../other")
    for link in ("absolute", "relative"):
        assert str(place / "other") in doubt(str(place / "d" / link / "x")).text
    (place / "d/again").symlink_to("again")
    with pytest.raises(OSError) as caught:
        doubt(str(place / "d/again/x"))
    assert caught.value.errno == errno.ELOOP


def test_a_file_is_doubted_for_its_owner_and_its_mode(place: Path) -> None:
    file = place / "d/file"
    file.touch(0o600)
    assert doubt_of_file(str(file)) == ""
    file.chmod(0o622)
    assert doubt_of_file(str(file)) == f"{file} can be changed by others"
    file.chmod(0o600)
    os.chown(file, STRANGER, 0)
    assert doubt_of_file(str(file)).startswith(f"{file} belongs to ")
    os.mkfifo(place / "d/pipe", 0o666)
    os.chown(place / "d/pipe", STRANGER, 0)
    assert doubt_of_file(str(place / "d/pipe")) == ""
    os.chown(place / "d", STRANGER, 0)
    assert str(place / "d") in doubt_of_file(str(file))


def test_a_list_of_users_counts_where_the_group_may_write(place: Path) -> None:
    file = place / "d/file"
    file.touch(0o600)

    def listed(mask: int) -> str:
        """Let a stranger read and write, as far as *mask* goes, and return the doubt."""
        rights = ((1, 6, -1), (2, 6, STRANGER), (4, 4, -1), (0x10, mask, -1), (0x20, 0, -1))
        entries = b"".join(struct.pack("<HHi", *entry) for entry in rights)
        try:
            os.setxattr(file, "system.posix_acl_access", struct.pack("<I", 2) + entries)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                pytest.skip("needs a file system with lists of users")
            raise
        return doubt_of_file(str(file))

    assert listed(6) == f"{file} can be changed by others"
    assert listed(4) == ""


def test_a_key_that_all_can_read_is_warned_of(tmp_path: Path) -> None:
    key = tmp_path / "key"
    assert warning_of_key(str(key)) == ""
    key.touch()
    key.chmod(0o640)
    assert warning_of_key(str(key)) == ""
    key.chmod(0o644)
    assert f"chmod o-r {key}" in warning_of_key(str(key))
    assert warning_of_key(str(tmp_path)) == ""


def test_a_store_is_private_while_it_and_its_memos_are_ours_alone(place: Path) -> None:
    store = place / "d/store"
    assert not is_private(str(store))
    (store / "memo").mkdir()
    store.chmod(0o700)
    assert is_private(str(store))
    store.chmod(0o750)
    assert not is_private(str(store))
    store.chmod(0o700)
    os.chown(store / "memo", STRANGER, 0)
    assert not is_private(str(store))
    os.chown(store / "memo", 0, 0)
    os.chown(store, STRANGER, 0)
    assert not is_private(str(store))
    os.chown(store, 0, 0)
    (place / "d").chmod(0o777)
    assert not is_private(str(store))


def test_root_and_who_became_root_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_trusted(0) and is_trusted(os.geteuid())
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert not is_trusted(STRANGER)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert is_trusted(STRANGER) == (os.geteuid() == 0)
