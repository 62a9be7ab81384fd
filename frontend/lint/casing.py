"""Keywords: upper case or lower case, but one of them [LNT-2, LNT-4]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

FROM_AS_CASING = Rule(
    name="FromAsCasing",
    description="FROM and AS are one phrase and read best in one casing",
    message="'{0}' and '{1}' keywords' casing do not match".format,
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    name="ConsistentInstructionCasing",
    description="Instructions are easiest to find when all are in upper case or all in lower case",
    message="Command '{0}' should match the case of the command majority ({1})".format,
)


def check_from_as(start: ast.From, report: Report) -> None:
    """Compare AS with FROM; a FROM in mixed case is for the other rule."""
    keyword, other = start.keyword, start.as_keyword
    if other and keyword == keyword.lower():
        matches = other == other.lower()
    elif other and keyword == keyword.upper():
        matches = other == other.upper()
    else:
        matches = True
    if not matches:
        report.add(FROM_AS_CASING, other, keyword, at=start)


def check_instruction_casing(dockerfile: ast.Dockerfile, report: Report) -> None:
    """Compare each keyword with what most of them do; ARGs in front of the first FROM do not count."""
    instructions = [
        instruction for stage in dockerfile.stages for instruction in (stage.start, *stage.body)
    ]
    lower = sum(item.keyword == item.keyword.lower() for item in instructions)
    upper = sum(item.keyword == item.keyword.upper() for item in instructions)
    is_lower = lower > upper
    for item in instructions:
        expected = item.keyword.lower() if is_lower else item.keyword.upper()
        if item.keyword != expected:
            values = (item.keyword, "lowercase" if is_lower else "uppercase")
            report.add(CONSISTENT_INSTRUCTION_CASING, *values, at=item, skippable=False)
