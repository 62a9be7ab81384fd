"""``--check``: everything the build checks have to say, also about a file that cannot be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pybuild.frontend.lint.filecheck import check_text
from pybuild.frontend.lint.options import CheckOptions
from pybuild.frontend.lint.report import Finding, Report
from pybuild.frontend.lowering.evaluate import Evaluator
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import check_options, plan
from pybuild.frontend.lowering.stagestate import StageState
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.parse import Draft, parse_dockerfile
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The outcome of a check.

    Attributes:
        findings, advice: by line.
        error: why the file could not be built, if so; what comes behind it was not looked at.
        states: the stages that were evaluated, for those who mend findings.
        unknown: the lines that name images of which nothing is known.
    """

    findings: tuple[Finding, ...]
    error: UserError | None = None
    states: tuple[StageState, ...] = field(default=(), repr=False)
    advice: tuple[BuildWarning, ...] = ()
    unknown: Mapping[ImageRequest, Span] = field(default_factory=dict[ImageRequest, Span])


class FileCheck:
    """The check of one file. All stages are looked at unless a target is given."""

    def __init__(self, text: bytes, filename: str, options: LowerOptions) -> None:
        self._options = options
        self._draft = Draft()
        self._dockerfile: ast.Dockerfile | None = None
        self._error: UserError | None = None
        try:
            self._dockerfile = parse_dockerfile(text, filename, self._draft)
        except UserError as error:
            self._error = error

    def run(self, images: Mapping[ImageRequest, ResolvedImage]) -> Checked | NeedImages:
        """Return the result, or which images must be known first.

        An image that cannot be had is answered with `ResolvedImage.unknown`: what depends on it is
        not reported then, everything else is.
        """
        try:
            report = Report(self._check_options())
        except UserError as bad_options:
            return Checked(findings=(), error=bad_options)
        if self._dockerfile is None:
            draft = self._draft
            check_text(tuple(draft.instructions), tuple(draft.warnings), report)
            return Checked(findings=report.findings, error=self._error)
        every = not self._options.target
        evaluator: Evaluator | None = None
        unknown: dict[ImageRequest, Span] = {}
        error: UserError | None = None
        try:
            plan_of_file = plan(self._dockerfile, self._options, images, report, all_stages=every)
            if isinstance(plan_of_file, NeedImages):
                return plan_of_file
            for node in plan_of_file.nodes:
                request = plan_of_file.graph.request(node)
                if request is not None and not images[request].known:
                    unknown.setdefault(request, node.at.span)
            plan_of_file.scope.has_titles = False
            evaluator = Evaluator(plan_of_file.graph, plan_of_file.scope, images)
            evaluator.add_all(plan_of_file.nodes)
            report.finish()
        except UserError as caught:
            error = caught
        states = tuple(evaluator.states.values()) if evaluator else ()
        return Checked(
            findings=report.findings,
            advice=report.advice,
            error=error,
            states=states,
            unknown=unknown,
        )

    def _check_options(self) -> CheckOptions:
        return check_options(self._draft.directives, self._options.build_args)
