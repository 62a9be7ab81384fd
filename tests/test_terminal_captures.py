"""The captures of docs/guides/terminal.md are what terminals show today."""

from __future__ import annotations

import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from pybuild.progress.screen import width
from tests.harness import ROOT
from tests.needs import need

_CAPTURE = re.compile(r"<!-- capture (\w+) (\d+) -->\n```\n(.*?)```\n<!-- end -->", re.DOTALL)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("terminal_captures", str(ROOT / "scripts/terminal-captures"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_each_build_is_shown_at_each_width_and_fits(script: ModuleType) -> None:
    shown = _CAPTURE.findall(script.PAGE.read_text(encoding="utf-8"))
    assert [(name, int(columns)) for name, columns, _ in shown] == [
        (name, columns) for name in script.NAMES for columns in script.WIDTHS
    ]
    for name, columns, screen in shown:
        lines = screen.rstrip("\n").split("\n")
        assert len(lines) <= script.LINES, name
        assert all(width(line) <= int(columns) for line in lines), name


@pytest.mark.sandbox
@pytest.mark.slow
def test_the_page_is_up_to_date(script: ModuleType, tmp_path: Path) -> None:
    """``scripts/terminal-captures`` makes it anew."""
    need("tmux", "busybox")
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.replaced(page, script.captures(tmp_path)) == page


def test_long_seconds_are_shown_as_short_ones(script: ModuleType) -> None:
    short = " => [1/2] RUN a name that is cut…   9.9s\n => [2/2] COPY a                      0.1s"
    longer = " => [1/2] RUN a name that is cu…   10.1s\n => [2/2] COPY a                     10.1s"
    assert script.in_one_form(short, 40) == script.in_one_form(longer, 40)
