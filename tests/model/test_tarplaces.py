"""Where ``cp`` puts what it copies, and that nothing gets elsewhere [CTR-86]."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pybuild.model.tarplaces import NoPlace, TarPlace, extract, place_for


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o640
    made.mtime = 1000
    return made


def put(place: TarPlace, *members: tarfile.TarInfo) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for one in members:
            one.size = 1 if one.type == tarfile.REGTYPE else 0
            archive.addfile(one, io.BytesIO(b"x"))
    data.seek(0)
    with tarfile.open(fileobj=data, mode="r|") as archive:
        first = archive.next()
        assert first is not None
        extract(archive, first, place, owners=False)


FILE, FOLDER = member("f"), member("d", tarfile.DIRTYPE)


def test_places_are_those_of_cp(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    at = str(tmp_path)
    assert place_for(f"{at}/there", FILE) == (f"{at}/there", "f")
    assert place_for(f"{at}/there/", FOLDER) == (f"{at}/there/", "d")
    assert place_for(f"{at}/file", FILE) == (at, "file")
    assert place_for(f"{at}/new", FILE) == place_for(f"{at}/new", FOLDER) == (at, "new")
    assert place_for(f"{at}/new/", FOLDER) == (at, "new")
    for path, first, text in (
        (f"{at}/file", FOLDER, "cannot copy directory"),
        (f"{at}/file/", FILE, "no such directory"),
        (f"{at}/new/", FILE, "no such directory"),
    ):
        with pytest.raises(NoPlace, match=text):
            place_for(path, first)
    with pytest.raises(FileNotFoundError):
        place_for(f"{at}/no/new", FILE)


def test_what_is_in_it_comes_along_under_the_new_name(tmp_path: Path) -> None:
    hard = member("d/again", tarfile.LNKTYPE, "d/f")
    link = member("d/link", tarfile.SYMTYPE, "/anywhere")
    put(TarPlace(str(tmp_path), "new"), FOLDER, member("d/f"), hard, link)
    assert sorted(os.listdir(tmp_path / "new")) == ["again", "f", "link"]
    status = (tmp_path / "new/f").stat()
    assert (status.st_nlink, status.st_mode & 0o777, status.st_mtime) == (2, 0o640, 1000)
    assert os.readlink(tmp_path / "new/link") == "/anywhere"
    put(TarPlace(str(tmp_path / "new"), ""), FOLDER, member("d/more"))
    assert (tmp_path / "new/more").exists() and (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_what_becomes_ours_runs_as_nobody_else(tmp_path: Path) -> None:
    """Else a container's user makes a program that runs as root on this machine."""
    folder, program = member("d", tarfile.DIRTYPE), member("d/f")
    folder.mode, program.mode = 0o3755, 0o6755
    put(TarPlace(str(tmp_path), "d"), folder, program)
    assert (tmp_path / "d").stat().st_mode & 0o7777 == 0o1755
    assert (tmp_path / "d/f").stat().st_mode & 0o7777 == 0o755


def test_nothing_is_written_through_a_link_or_above_the_place(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "f").write_text("as before")
    away = member("d/away", tarfile.SYMTYPE, str(outside))
    with pytest.raises(NoPlace, match="a link is on the way"):
        put(TarPlace(str(inside), "d"), FOLDER, away, member("d/away/f"))
    put(TarPlace(str(inside), "d"), FOLDER, member("d/../../outside/f"))
    (inside / "link").symlink_to(outside / "f")
    put(TarPlace(str(inside), "link"), member("f"))  # in its place, not to where it leads
    assert (outside / "f").read_text() == "as before" and os.listdir(outside) == ["f"]
    assert (inside / "link").read_text() == "x" and not (inside / "link").is_symlink()


def test_a_directory_and_a_file_are_not_exchanged(tmp_path: Path) -> None:
    (tmp_path / "d").touch()
    (tmp_path / "f").mkdir()
    with pytest.raises(NoPlace, match="cannot overwrite non-directory"):
        put(TarPlace(str(tmp_path), "d"), FOLDER)
    with pytest.raises(NoPlace, match="cannot overwrite directory"):
        put(TarPlace(str(tmp_path), "f"), FILE)
