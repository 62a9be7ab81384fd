"""MAINTAINER, which LABEL replaced [LNT-8]."""

from __future__ import annotations

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast

MAINTAINER_DEPRECATED = Rule(
    name="MaintainerDeprecated",
    description="MAINTAINER is deprecated; a label says the same and can be queried",
    message="Maintainer instruction is deprecated in favor of using label".format,
)


def check_maintainer(at: ast.Maintainer, report: Report) -> None:
    report.add(MAINTAINER_DEPRECATED, at=at)
