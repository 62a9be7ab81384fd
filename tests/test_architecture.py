"""The architecture page is about the code that is there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.harness import ROOT
from tests.test_packaging import ROOMS

PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_its_rooms_are_the_folders() -> None:
    rows = re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)
    assert sorted(rows) == sorted(["pybuild", *ROOMS])


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"`([a-z0-9_]+(?:/[a-z0-9_]+)+\.py)\b", PAGE))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.slow
def test_its_picture_of_the_rooms_is_drawn_from_the_imports() -> None:
    drawn = subprocess.run(
        [sys.executable, ROOT / "scripts/pictures", "--print", "rooms"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    assert drawn in PAGE, "run scripts/pictures"


def test_the_calls_and_rooms_of_its_other_pictures_are_there() -> None:
    calls = re.findall(r"^    (\w+)->>(\w+): (\w+)\.[\w.<>]+$", PAGE, flags=re.MULTILINE)
    assert len(calls) > 20
    for caller, callee, module in calls:
        assert (ROOT / caller).is_dir()
        assert list((ROOT / callee).rglob(f"{module}.py"))
