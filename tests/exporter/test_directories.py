"""Directories that results go into: walked once, made where they are missing, open from then on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.exporter.directories import make_output, open_output
from pybuild.model.errors import UsageError
from tests.descriptors import none_left_open


def _opened(dest: Path | str, *, make: bool = False) -> tuple[int, int]:
    fd = open_output(str(dest), make=make)
    try:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino
    finally:
        os.close(fd)


def _identity(path: Path | str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("a/b")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to("../a/./b/..")
    (tmp_path / "a" / "chain").symlink_to("up/b")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("dest", "real"),
    [
        ("a", "a"),
        ("a/b", "a/b"),
        ("a/./b/../b", "a/b"),
        ("relative", "a/b"),
        ("absolute", "a"),
        ("absolute/b", "a/b"),
        ("a/up", "a"),
        ("a/chain", "a/b"),
        (".", "."),
    ],
)
def test_a_directory_is_opened_through_links_of_our_own(place: Path, dest: str, real: str) -> None:
    with none_left_open():
        assert _opened(place / dest) == _identity(place / real)


def test_the_root_and_what_is_below_it() -> None:
    assert _opened("/") == _identity("/")
    assert _opened("/proc") == _identity("/proc")


@pytest.mark.parametrize(
    ("dest", "error"),
    [("none", FileNotFoundError), ("a/none/x", FileNotFoundError), ("file", NotADirectoryError)],
)
def test_what_is_no_directory_is_not_opened(place: Path, dest: str, error: type[Exception]) -> None:
    with none_left_open(), pytest.raises(error):
        open_output(str(place / dest))
    assert not (place / "none").exists() and not (place / "a" / "none").exists()


def test_a_directory_is_made_with_those_above_it(place: Path) -> None:
    assert _opened(place / "new" / "inner", make=True) == _identity(place / "new" / "inner")
    assert _opened(place / "relative" / "c", make=True) == _identity(place / "a" / "b" / "c")
    os.close(make_output(str(place / "other")))
    assert (place / "other").is_dir()
    assert _opened(place / "a", make=True) == _identity(place / "a")


def test_links_that_lead_in_a_circle_are_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="would be written elsewhere: .*loop is a link of") as e:
        open_output(str(place / "loop"))
    assert e.value.hints == ("remove that link, or name another place",)


def test_as_many_links_as_the_kernel_follows_are_followed(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    for number in range(1, 42):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    assert _opened(tmp_path / "40") == _identity(tmp_path / "0")
    with pytest.raises(UsageError, match="would be written elsewhere"):
        open_output(str(tmp_path / "41"))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link to somebody else, which root may")
def test_a_link_of_somebody_else_leads_nowhere(place: Path) -> None:
    (place / "planted").symlink_to("a")
    os.lchown(place / "planted", 12345, 12345)
    with pytest.raises(UsageError, match="would be written elsewhere: .*/planted is a link of"):
        open_output(str(place / "planted" / "b"))
