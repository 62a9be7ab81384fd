"""Checks of Dockerfiles by the images that the store knows, and the file that is put in another's place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pybuild.builds.contexts import load_inputs
from pybuild.builds.linting import (
    Linter,
    difference,
    escape_of,
    file_of,
    replace_file,
    request_of,
)
from pybuild.builds.standardinput import StandardInput

TEXT = b"from scratch AS a\nCOPY --from=unknown:1 /x /x\n"


def test_a_file_is_checked_though_no_image_is_at_hand(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(TEXT)
    request = request_of(str(tmp_path), {"A": "1"})
    assert (request.context, request.dockerfile) == (str(tmp_path), "")
    assert request.build_args == {"A": "1"}
    inputs = load_inputs(request, StandardInput())
    checked = Linter(request, inputs, str(tmp_path / "store")).check(TEXT)
    assert [one.rule.name for one in checked.findings] == [
        "FromAsCasing",
        "ConsistentInstructionCasing",
    ]
    assert file_of(request, inputs) == str(tmp_path / "Dockerfile")


def test_a_file_that_is_named_has_its_directory_as_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d" / "Other"
    path.parent.mkdir()
    path.write_bytes(TEXT)
    request = request_of(str(path), {})
    assert (request.context, request.dockerfile) == (str(path.parent), str(path))
    monkeypatch.chdir(path.parent)
    assert request_of("Other", {}).context == "."


@pytest.mark.parametrize(
    ("text", "escape"),
    [(b"FROM a\n", "\\"), (b"# escape=`\nFROM a\n", "`"), (b"# escape=x\nFROM a\n", "\\")],
)
def test_the_escape_character_of_a_file(text: bytes, escape: str) -> None:
    assert escape_of(text) == escape


def test_a_file_takes_anothers_place_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_bytes(b"old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    replace_file(str(path), b"new")
    after = path.stat()
    assert path.read_bytes() == b"new" and after.st_ino != before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert os.listdir(tmp_path) == ["Dockerfile"]


def test_nothing_stays_of_a_file_that_cannot_take_a_place(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(str(tmp_path / "absent"), b"new")
    assert os.listdir(tmp_path) == []


def test_a_difference_is_unified_and_knows_no_line_ends() -> None:
    assert "".join(difference("f", b"a\r\nb\xff\n", b"a\nc\n")) == (
        "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\N{REPLACEMENT CHARACTER}\n+c\n"
    )
    assert list(difference("f", b"a\r\n", b"a\n")) == []
