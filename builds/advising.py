"""The advice of a build that its file does not skip, each piece once."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.frontend.lint.options import CheckOptions
from pybuild.frontend.lowering.lower import check_options
from pybuild.frontend.syntax import ast
from pybuild.model.advice import ADVICE
from pybuild.model.events import BuildWarning


class AdviceFilter:
    """Decides which warnings people are shown: advice is skipped as the build checks are."""

    def __init__(self, dockerfile: ast.Dockerfile, build_args: Mapping[str, str]) -> None:
        self._options = check_options(dockerfile.directives, build_args)
        self._stages = dockerfile.stages
        self._said: set[BuildWarning] = set()

    def hides(self, warning: BuildWarning) -> bool:
        """Return whether *warning* is advice that was given already, or that nobody wants."""
        rule = warning.rule
        if rule not in ADVICE:
            return False
        if warning in self._said or not self._options.allows_name(rule):
            return True
        self._said.add(warning)
        lines = {span.first_line for span in warning.spans}
        for at in (at for stage in self._stages for at in stage.body):
            if at.comments and at.span.first_line in lines:
                local = CheckOptions.of_comments(at.comments)
                return local is not None and not local.allows_name(rule)
        return False
