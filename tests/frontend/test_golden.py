"""Whole Dockerfiles against their recorded syntax trees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.frontend.syntax.parse import parse_dockerfile
from tests.conftest import GOLDEN
from tests.frontend.dump import dump

CASES = sorted(path.parent for path in GOLDEN.glob("*/Dockerfile"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_tree_is_as_recorded(case: Path, check_golden: Callable[[Path, str], None]) -> None:
    text = dump(parse_dockerfile((case / "Dockerfile").read_bytes()))
    check_golden(case / "ast.txt", text)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_windows_line_ends_change_nothing_but_heredoc_bodies(case: Path) -> None:
    """[IN-2, E13]"""
    text = (case / "Dockerfile").read_bytes()
    as_windows = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    tree = dump(parse_dockerfile(as_windows)).replace("\\r\\n", "\\n")
    assert tree == dump(parse_dockerfile(as_windows.replace(b"\r\n", b"\n")))


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 15
