"""CMD, ENTRYPOINT and HEALTHCHECK [LNT-7, LNT-12]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

JSON_ARGS_RECOMMENDED = Rule(
    name="JSONArgsRecommended",
    description="In shell form a shell stands between the program and the signals sent to it",
    message=(
        "JSON arguments recommended for {0} to prevent unintended behavior related to OS signals"
    ).format,
)
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    name="MultipleInstructionsDisallowed",
    description="Only the last instruction of its kind in a stage has an effect",
    message=(
        "Multiple {0} instructions should not be used in the same stage because only the last one"
        " will be used"
    ).format,
)


def check_command_form(
    at: ast.Cmd | ast.Entrypoint, *, has_own_shell: bool, report: Report
) -> None:
    """Report the shell form, except where somebody chose a shell on purpose.

    Args:
        has_own_shell: a SHELL is in force, the stage's or inherited.
    """
    if at.command.is_shell and not has_own_shell:
        report.add(JSON_ARGS_RECOMMENDED, at.keyword, at=at)


def check_used_once(at: ast.Instruction, earlier: ast.Instruction | None, report: Report) -> None:
    """Report *earlier* if there is one: it has no effect. Comments above *at* decide on skipping."""
    if earlier is not None:
        spans = (earlier.span,)
        report.add(MULTIPLE_INSTRUCTIONS_DISALLOWED, at.keyword, at=at, spans=spans)
