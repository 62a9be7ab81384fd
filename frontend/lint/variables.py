"""Variables that nothing defines [LNT-11]."""

from __future__ import annotations

from collections.abc import Collection

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

UNDEFINED_VAR = Rule(
    name="UndefinedVar",
    description="A variable that is neither an ENV nor a declared ARG at this line expands to nothing",
    message="Usage of undefined variable '${0}'{1}".format,
)


def undefined_variable(
    at: ast.Instruction, name: str, known: Collection[str], report: Report
) -> None:
    """Report *name*; *known* are the variables with a value, one of which was perhaps meant."""
    near = report.guess(name, known)
    report.add(UNDEFINED_VAR, name, f" (did you mean ${near}?)" if near else "", at=at)
