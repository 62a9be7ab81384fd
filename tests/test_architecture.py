"""The architecture page is about the code that is there."""

from __future__ import annotations

import re

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
