"""The way a file is written, whatever it builds [LNT-2..4, LNT-8, LNT-19]."""

from __future__ import annotations

from pybuild.frontend.lint.options import Rule
from pybuild.frontend.lint.report import Report
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


INVALID_DEFINITION_DESCRIPTION = Rule(
    name="InvalidDefinitionDescription",
    description=(
        "A comment right above a stage or an argument describes it when it starts with its name;"
        " an empty comment line in between makes it an ordinary one"
    ),
    message="Comment for {0} should follow the format: `# {1} <description>`".format,
    experimental=True,
)


def check_description(item: ast.From | ast.Arg, report: Report) -> None:
    if isinstance(item, ast.From):
        keyword, names = "FROM", [item.name]
    else:
        keyword, names = "ARG", [arg.name for arg in item.items]
    if not item.comments or not names[0] or item.comments[-1].partition(" ")[0] in names:
        return
    shown = names[0] if len(names) == 1 else "<arg_key>"
    report.add(INVALID_DEFINITION_DESCRIPTION, keyword, shown, at=item)


MAINTAINER_DEPRECATED = Rule(
    name="MaintainerDeprecated",
    description="MAINTAINER is deprecated; a label says the same and can be queried",
    message="Maintainer instruction is deprecated in favor of using label".format,
)


def check_maintainer(at: ast.Maintainer, report: Report) -> None:
    report.add(MAINTAINER_DEPRECATED, at=at)
