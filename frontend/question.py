"""Questions about a Dockerfile that are answered without a build of it: check, outline, targets [UI-6]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from pybuild.frontend import views
from pybuild.frontend.check import FileCheck
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.events import BuildWarning

Outcomes = Mapping[ImageRequest, ResolvedImage | PybuildError]
"""Images, or why each cannot be had."""


class Question(StrEnum):
    CHECK = "check"
    OUTLINE = "outline"
    TARGETS = "targets"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """An answer about a Dockerfile.

    Attributes:
        text: for people; *json*: for programs, with *error* in it.
        error: why the file cannot be built, with its lines, as a check has it.
        is_clean: there is nothing to mend.
    """

    text: str
    json: str
    error: UserError | None = None
    is_clean: bool = True


class FileQuestion:
    """One question about one file. An image that cannot be had does not stop it; a check says why.

    Args:
        reword: makes of the warnings of a check those of the answer.
    """

    def __init__(
        self,
        question: Question,
        text: bytes,
        filename: str,
        options: LowerOptions,
        reword: Callable[[BuildWarning], BuildWarning] = lambda warning: warning,
    ) -> None:
        self._question = question
        self._text = text
        self._filename = filename
        self._options = options
        self._reword = reword
        self._check = FileCheck(text, filename, options) if question is Question.CHECK else None
        self._images: dict[ImageRequest, ResolvedImage] = {}
        self._errors: dict[ImageRequest, UserError] = {}

    def add(self, need: NeedImages, outcomes: Outcomes) -> None:
        """Take what became of the images that `run` needs."""
        for request, outcome in outcomes.items():
            if isinstance(outcome, ResolvedImage):
                self._images[request] = outcome
            else:
                self._images[request] = ResolvedImage.unknown(request)
                self._errors[request] = UserError(
                    f"{request.reference.familiar}: {outcome.message}",
                    hints=(*outcome.hints, *need.hints(request)),
                )

    def run(self) -> FileAnswer | NeedImages:
        """Return the answer, or which images must be known first.

        Raises:
            UserError: the file cannot be read as far as the question goes.
        """
        if self._check is not None:
            return self._checked(self._check)
        from pybuild.frontend.outline import list_stages, outline

        dockerfile = parse_dockerfile(self._text, self._filename)
        if self._question is Question.TARGETS:
            stages = list_stages(dockerfile)
            return FileAnswer(
                text=views.targets_text(stages), json=views.targets_json(stages, self._text)
            )
        described = outline(dockerfile, self._options, self._images)
        if isinstance(described, NeedImages):
            return described
        return FileAnswer(
            text=views.outline_text(described), json=views.outline_json(described, self._text)
        )

    def _checked(self, check: FileCheck) -> FileAnswer | NeedImages:
        checked = check.run(self._images)
        if isinstance(checked, NeedImages):
            return checked
        lines = excerpts(self._text)
        warnings = [self._reword(finding.warning()) for finding in checked.findings]
        error = checked.error
        by_line = sorted(checked.unknown.items(), key=lambda item: item[1].first_line)
        if error is None and by_line:
            request, span = by_line[0]
            error = self._errors[request].copy_with(spans=(span,))
        return FileAnswer(
            text=views.check_text(warnings, lines),
            json=views.check_json(warnings, error, self._filename, self._text),
            error=error and error.showing({self._filename: lines}),
            is_clean=not warnings and error is None,
        )


METHODS = ("build", *Question)


@dataclass(frozen=True, slots=True)
class CallOption:
    """``--call=method[,format=json|text][,ignorestatus]``; *question* is None for a build."""

    question: Question | None
    json: bool = False
    ignore_status: bool = False


def parse_call(text: str, *, is_check: bool) -> CallOption:
    """Read the value of ``--call``; *is_check*: there is ``--check`` too.

    Raises:
        UsageError: no such method or option, or two methods at once.
    """
    method, *fields = text.split(",")
    if is_check:
        if method not in ("", "check"):
            raise UsageError(f"--check is --call=check, and cannot go with --call={method}")
        method = "check"
    method = method or "build"
    if method not in METHODS:
        raise UsageError(f'invalid call "{method}": one of {", ".join(METHODS)}')
    json = ignore_status = False
    for field in fields:
        match field.split("="):
            case ["format", "json" | "text" as name]:
                json = name == "json"
            case ["ignorestatus"]:
                ignore_status = True
            case ["ignorestatus", "true" | "false" | "1" | "0" as value]:
                ignore_status = value in ("true", "1")
            case _:
                raise UsageError(
                    f'invalid call option "{field}": one of format=json, format=text, ignorestatus'
                )
    return CallOption(None if method == "build" else Question(method), json, ignore_status)
