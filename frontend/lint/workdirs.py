"""Relative working directories [LNT-10]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.gotext import quote

WORKDIR_RELATIVE_PATH = Rule(
    name="WorkdirRelativePath",
    description="A first WORKDIR that is relative depends on where the base image happens to be",
    message="Relative workdir {0} can have unexpected results if the base image changes".format,
)


def check_workdir(at: ast.Workdir, path: str, *, is_first: bool, report: Report) -> None:
    """Look at the first WORKDIR of a chain of stages; what follows builds upon it."""
    if is_first and not path.startswith("/"):
        report.add(WORKDIR_RELATIVE_PATH, quote(path), at=at)
