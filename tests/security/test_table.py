"""The table at the end of docs/security.md names each file of this folder, and no more attempts than there are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.security.test_numbers import NUMBERS, READERS
from tests.security.test_terminal_output import PLACES, SEQUENCES

HERE = Path(__file__)
_ROW = re.compile(r"^\|.*\| ([\d,]+) \|.*\| `(test_\w+\.py)` \|$", re.MULTILINE)


def promised() -> dict[str, int]:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows: list[tuple[str, str]] = _ROW.findall(text)
    assert len(rows) == len({name for _, name in rows}), "a file stands in two rows"
    return {name: int(number.replace(",", "")) for number, name in rows}


def test_each_file_of_attempts_stands_in_the_table() -> None:
    files = {path.name for path in HERE.parent.glob("test_*.py")} - {HERE.name}
    assert set(promised()) == files


def test_there_are_the_attempts_that_the_documents_name() -> None:
    assert sum(promised().values()) >= 300


@pytest.mark.slow
def test_pytest_collects_at_least_as_many() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", HERE.parent],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = Counter(re.findall(r"^tests/security/(test_\w+\.py)::", done.stdout, re.MULTILINE))
    assert sum(found.values()) >= 300, done.stdout[-2000:]
    # Those of one place are one test, since there are a thousand that take no time.
    found["test_numbers.py"] += len(READERS) * len(NUMBERS)
    found["test_terminal_output.py"] += (len(PLACES) + 1) * len(SEQUENCES)
    # A file that lacks a library is not collected at all.
    missing = {name: number for name, number in promised().items() if 0 < found[name] < number}
    assert not missing
