"""Members of an engine's archives lead nowhere out of the place that they are unpacked in."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pybuild.client.docker.unpacking import checked
from pybuild.model.errors import UserError
from pybuild.model.tarplaces import write_as_it_is


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../out", tarfile.REGTYPE, ""),
        ("a/../../out", tarfile.DIRTYPE, ""),
        ("to/out", tarfile.REGTYPE, ""),
        ("hard", tarfile.LNKTYPE, "../out"),
        ("hard", tarfile.LNKTYPE, "to/out"),
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "to").symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads out of"):
        checked(member(name, kind, link), str(place))


def test_a_name_from_the_root_is_one_of_the_place_and_modes_are_harmless(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(member("/a", mode=0o6777))
        archive.addfile(member("b", tarfile.LNKTYPE, "/a", mode=0o777))
        archive.addfile(member("c", tarfile.SYMTYPE, "/anywhere"))
    data.seek(0)
    with tarfile.open(fileobj=data, mode="r|") as archive:
        for one in archive:
            write_as_it_is(archive, checked(one, str(tmp_path)), str(tmp_path), numeric_owner=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "b").samefile(tmp_path / "a")
    assert (tmp_path / "c").is_symlink()
