"""The ids of requirements that the tree cites stand in one page, once each."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.test_packaging import ROOMS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/requirements.md"
ROW = re.compile(r"^\| ([A-Z][A-Z0-9]*-\d+) \|", re.MULTILINE)
CITED = re.compile(r"\b([A-Z][A-Z0-9]*)-\d+\b(?![.\w])")
CITING = ("*.py", "*.lark", "*.md", "*.proto")
PLACES = ("pybuild", *ROOMS, "tests", "docs", "benchmarks", "examples", "scripts")


def rows() -> list[str]:
    return ROW.findall(PAGE.read_text())


def test_each_id_stands_once() -> None:
    ids = rows()
    assert len(ids) > 400
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_each_cited_id_stands_there() -> None:
    ids = set(rows())
    families = {id.partition("-")[0] for id in ids}
    unknown: defaultdict[str, set[str]] = defaultdict(set)
    for pattern in CITING:
        for file in (file for place in PLACES for file in (ROOT / place).rglob(pattern)):
            if file == PAGE:
                continue
            for match in CITED.finditer(file.read_text()):
                if match[1] in families and match[0] not in ids:
                    unknown[match[0]].add(str(file.relative_to(ROOT)))
    assert not unknown, "cited, but not in docs/requirements.md"
