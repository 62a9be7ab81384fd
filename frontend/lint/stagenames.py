"""Names of stages: their casing, and that each means one stage [LNT-1, LNT-5, LNT-6]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

STAGE_NAME_CASING = Rule(
    name="StageNameCasing",
    description="A stage is found by its name in lower case, whatever it was called",
    message="Stage name '{0}' should be lowercase".format,
)
DUPLICATE_STAGE_NAME = Rule(
    name="DuplicateStageName",
    description="Of two stages with one name, only the later can be used from then on",
    message='Duplicate stage name "{0}", stage names should be unique'.format,
)
RESERVED_STAGE_NAME = Rule(
    name="ReservedStageName",
    description="The names scratch and context already mean something",
    message='Stage name should not use the same name as reserved stage "{0}"'.format,
)

_RESERVED = frozenset(("scratch", "context"))


def check_stage_name_casing(start: ast.From, report: Report) -> None:
    if start.name_as_written != start.name_as_written.lower():
        report.add(STAGE_NAME_CASING, start.name_as_written, at=start)


def check_stage_names(dockerfile: ast.Dockerfile, report: Report) -> None:
    """Compare the names of all stages."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        start = stage.start
        if start.name in _RESERVED:
            report.add(RESERVED_STAGE_NAME, start.name, at=start, skippable=False)
        if start.name and start.name in seen:
            report.add(DUPLICATE_STAGE_NAME, start.name, at=start, skippable=False)
        seen.add(start.name)
