"""Blank lines inside a continued instruction [LNT-3]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

NO_EMPTY_CONTINUATION = Rule(
    name="NoEmptyContinuation",
    description="A blank line inside a continued instruction is deprecated and looks like its end",
    message="Empty continuation line".format,
)


def check_continuations(
    warnings: tuple[ast.ParseWarning, ...],
    instructions: tuple[ast.Instruction, ...],
    report: Report,
) -> None:
    """Report what the line reader noticed, at the last line of the instruction's own text."""
    by_line = {item.span.first_line: item for item in instructions}
    for warning in warnings:
        at = by_line.get(warning.first_line)
        if at is not None:
            report.add(NO_EMPTY_CONTINUATION, at=at, spans=(warning.span,), skippable=False)
