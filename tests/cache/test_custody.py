"""A store is taken where it is ours alone: narrowed, looked through, or refused with a way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.cache.disk.custody import file_system, take

STRANGER = 12345


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir(mode=0o700)
    return made


def refusal(place: Path, *, to_read: bool = False) -> str:
    """Return why a place cannot be a store, "" where it can."""
    warnings: list[str] = []
    found = take(str(place), warnings.append, to_read=to_read)
    assert warnings == []
    if found is None:
        return ""
    assert all(found[1]), "a way out"
    return found[0]


def mode(place: Path) -> int:
    return place.stat().st_mode & 0o7777


def test_what_is_not_there_can_be_made_and_a_file_is_no_store(place: Path) -> None:
    assert refusal(place) == refusal(place / "none") == ""
    (place / "file").write_bytes(b"")
    assert refusal(place / "file") == "is not a directory"


def test_a_wide_directory_is_closed_where_it_is_empty_or_a_store_and_else_left_alone(
    place: Path,
) -> None:
    for names in ([], ["blobs", "store.json"], ["blobs", "lost+found"], ["store.json", "other"]):
        for name in names:
            (place / name).mkdir(exist_ok=True) if name == "blobs" else (place / name).touch()
        place.chmod(0o755)
        assert refusal(place) == "", names
        assert mode(place) == 0o700, names
        for name in names:
            (place / name).rmdir() if name == "blobs" else (place / name).unlink()
    (place / "notes.txt").touch()
    place.chmod(0o755)
    assert refusal(place) == ""
    assert mode(place) == 0o755


def test_a_directory_for_everybodys_files_is_none_of_ours(place: Path) -> None:
    place.chmod(0o1700)
    assert refusal(place) == "is a directory for everybody's files"


def test_a_link_in_the_place_of_a_directory_is_refused(place: Path, tmp_path: Path) -> None:
    (place / "overlay-attributes").symlink_to("user")  # a mark of ours
    assert refusal(place) == ""
    (place / "blobs").mkdir()
    (place / "blobs/sha256").symlink_to(tmp_path)
    assert refusal(place) == "may hold what others put there: blobs/sha256 is a link"


def test_a_file_in_the_place_of_a_directory_is_refused(place: Path) -> None:
    (place / "tmp").touch()
    assert refusal(place) == "may hold what others put there: tmp is not a directory"


def test_what_others_may_have_put_there_is_looked_for_where_they_could(place: Path) -> None:
    (place / "store.json").touch()

    def planted() -> str:
        place.chmod(0o777)
        return refusal(place).removeprefix("may hold what others put there: ")

    assert planted() == ""
    os.mkfifo(place / "pipe")
    assert planted() == "pipe is no regular file"
    assert refusal(place) == ""  # the directory is closed by now: nothing new is looked for
    (place / "pipe").unlink()
    os.link(place / "store.json", place / "ballast")
    assert "is another name of a file elsewhere" in planted()
    (place / "ballast").unlink()
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o722)
    assert planted() == "tmp could be written to by others (mode 0722)"
    (place / "tmp").chmod(0o755)
    assert planted() == ""


@pytest.mark.root
def test_the_store_of_somebody_else_is_theirs_and_roots_may_be_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "blobs").mkdir()
    os.chown(place / "blobs", STRANGER, STRANGER)
    assert refusal(place) == f"may hold what others put there: blobs belongs to uid {STRANGER}"
    os.chown(place, STRANGER, STRANGER)
    found = take(str(place), print)
    assert found is not None and f"-u '#{STRANGER}'" in found[1][0]
    assert found[0] == f"is not for uid 0; it belongs to uid {STRANGER}"
    os.chown(place, 0, 0)
    os.chown(place / "blobs", 0, 0)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert refusal(place, to_read=True) == ""
    assert refusal(place).startswith(f"is not writable for uid {STRANGER}; it belongs to ")
    place.chmod(0o770)
    assert refusal(place, to_read=True).startswith("is not writable for ")


def test_the_kind_of_a_file_system_is_read_of_its_mount(tmp_path: Path) -> None:
    assert file_system("/proc") == "proc"
    assert file_system(str(tmp_path / "none")) == ""
