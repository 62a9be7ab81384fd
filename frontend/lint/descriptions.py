"""Comments that describe a stage or an argument [LNT-19, UI-5]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

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
