"""Contexts given as files or archives: what is laid out, and what no archive may do."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from pybuild.builds.givencontexts import source_of, unpack_context
from pybuild.model.errors import UsageError


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode, made.mtime = kind, link, mode, 1_000_000_000
    return made


def archive(*members: tarfile.TarInfo, data: bytes = b"data") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for made in members:
            made.size = len(data) if made.isreg() else 0
            tar.addfile(made, io.BytesIO(data))
    return out.getvalue()


def test_files_by_path_are_alike_whenever_they_are_given(tmp_path: Path) -> None:
    folder = Path(source_of("context", {"d/e/f": "text", "g": b"\0"}, str(tmp_path)))
    assert (folder / "d/e/f").read_text() + (folder / "g").read_text() == "text\0"
    assert {path.stat().st_mtime for path in (folder, *folder.rglob("*"))} == {0.0}
    assert (folder / "g").stat().st_mode & 0o777 == 0o644


def test_other_sources_are_handed_on(tmp_path: Path) -> None:
    assert source_of("context", "https://h/r.git", str(tmp_path)) == "https://h/r.git"
    assert source_of("context", tmp_path, str(tmp_path)) == str(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_archive_keeps_modes_times_and_links(tmp_path: Path) -> None:
    data = archive(
        member("./", tarfile.DIRTYPE),
        member("d", tarfile.DIRTYPE, mode=0o750),
        member("./d/run", mode=0o755),
        member("same", tarfile.LNKTYPE, "d/run"),
        member("l", tarfile.SYMTYPE, "/etc/passwd"),
        member("l"),
    )
    folder = Path(source_of("context", data, str(tmp_path)))
    assert (folder / "d/run").read_bytes() == b"data"
    assert (folder / "d/run").stat().st_mode & 0o777 == 0o755
    assert (folder / "d").stat().st_mode & 0o777 == 0o750
    assert (folder / "d").stat().st_mtime == (folder / "d/run").stat().st_mtime == 1e9
    assert (folder / "same").samefile(folder / "d/run")
    assert not (folder / "l").is_symlink() and (folder / "l").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((member("../x"),), "no path inside"),
        ((member("/x"),), "no path inside"),
        ((member("l", tarfile.SYMTYPE, "/tmp"), member("l/x")), "through a link"),
        (
            (member("l", tarfile.SYMTYPE, "/tmp"), member("l/d/x", tarfile.DIRTYPE)),
            "through a link",
        ),
        ((member("h", tarfile.LNKTYPE, "/etc/passwd"),), "to no file before it"),
        ((member("h", tarfile.LNKTYPE, "../../x"),), "to no file before it"),
        ((member("p", tarfile.FIFOTYPE),), "neither a file nor"),
        ((member("c", tarfile.CHRTYPE),), "neither a file nor"),
    ],
)
def test_an_archive_reaches_nothing_outside(
    tmp_path: Path, members: tuple[tarfile.TarInfo, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        source_of("context", archive(*members), str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["context"]


def test_an_archive_may_end_with_its_last_byte(tmp_path: Path) -> None:
    """As of `docker build -f - .` without BuildKit [EP-5]."""
    whole = archive(member("a"), data=b"x" * 600)
    for number, end in enumerate((512 + 600, 512 + 700, 512 + 1024)):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        folder = Path(source_of("context", whole[:end], str(scratch)))
        assert (folder / "a").read_bytes() == b"x" * 600
    with pytest.raises(UsageError, match="unexpected end of data"):
        source_of("short", whole[: 512 + 599], str(tmp_path))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no archive that can be unpacked"):
        source_of("context", b"nothing", str(tmp_path))
    with pytest.raises(UsageError, match="no archive that can be unpacked"):
        source_of("other", archive(member("a"), data=bytes(9000))[:4000], str(tmp_path))


def test_an_archive_in_a_file_is_unpacked_or_none(tmp_path: Path) -> None:
    (tmp_path / "whole.tar").write_bytes(archive(member("d/a", mode=0o755)))
    folder = Path(unpack_context(str(tmp_path / "whole.tar"), str(tmp_path)))
    assert folder == tmp_path / "context" and (folder / "d/a").read_bytes() == b"data"
    for name, data in (
        ("none", b"nothing"),
        ("cut", archive(member("a"), data=bytes(9000))[:4000]),
    ):
        (tmp_path / name).write_bytes(data)
        (tmp_path / f"{name}-scratch").mkdir()
        with pytest.raises(UsageError, match="context: no archive that can be unpacked"):
            unpack_context(str(tmp_path / name), str(tmp_path / f"{name}-scratch"))
    with pytest.raises(UsageError, match="no archive that can be unpacked: .*No such file"):
        (tmp_path / "third").mkdir()
        unpack_context(str(tmp_path / "gone"), str(tmp_path / "third"))
