"""Answers about a Dockerfile without a build of it: check, outline, targets [UI-6].

The engine, its event loop and its HTTP client are imported only when a registry must be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pybuild.builds.builder import FileAnswer, Question
from pybuild.builds.contextkinds import is_at_hand
from pybuild.builds.contexts import BuildInputs, load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.host import native_platform
from pybuild.engine.settings import Settings
from pybuild.frontend import views
from pybuild.frontend.check import Check, Checked
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import Excerpts, excerpts
from pybuild.model.errors import PybuildError, UserError

T = TypeVar("T")
_Known = Mapping[ImageRequest, ResolvedImage]
_Settings = Callable[[], Settings]


def answer_here(question: Question, request: BuildRequest, settings: _Settings) -> FileAnswer:
    """Answer *question* about the Dockerfile of *request*.

    Args:
        settings: reads the configuration, where it is needed.

    Raises:
        PybuildError: with the lines it is about.
    """
    stdin = StandardInput()
    if is_at_hand(request, stdin):
        inputs = load_inputs(request, stdin)
    else:
        from pybuild.builds.checkinputs import load_remote

        inputs = load_remote(request, stdin, settings())
    images = _Images(settings, pull=request.pull)
    try:
        match question:
            case Question.CHECK:
                return _check(request, inputs, images)
            case Question.OUTLINE:
                return _outline(request, inputs, images)
            case Question.TARGETS:
                return _targets(inputs)
    except PybuildError as error:
        raise error.showing({inputs.filename: _lines(inputs)}) from error.__cause__


def _check(request: BuildRequest, inputs: BuildInputs, images: _Images) -> FileAnswer:
    check = Check(inputs.dockerfile, inputs.filename, _options(request, inputs))
    checked = images.answer(check.run)
    error = checked.error or images.error_of(checked)
    warnings = [finding.warning() for finding in checked.findings]
    if error is not None:
        error = error.showing({inputs.filename: _lines(inputs)})
    return FileAnswer(
        text=views.check_text(warnings, _lines(inputs)),
        json=views.check_json(warnings, error, inputs.filename, inputs.dockerfile),
        error=error,
        is_clean=not warnings and error is None,
    )


def _outline(request: BuildRequest, inputs: BuildInputs, images: _Images) -> FileAnswer:
    from pybuild.frontend.outline import outline

    dockerfile = parse_dockerfile(inputs.dockerfile, inputs.filename)
    options = _options(request, inputs)
    described = images.answer(lambda known: outline(dockerfile, options, known))
    return FileAnswer(
        text=views.outline_text(described), json=views.outline_json(described, inputs.dockerfile)
    )


def _targets(inputs: BuildInputs) -> FileAnswer:
    from pybuild.frontend.outline import list_stages

    stages = list_stages(parse_dockerfile(inputs.dockerfile, inputs.filename))
    return FileAnswer(
        text=views.targets_text(stages), json=views.targets_json(stages, inputs.dockerfile)
    )


def _options(request: BuildRequest, inputs: BuildInputs) -> LowerOptions:
    here = native_platform()
    return lower_options(request, inputs, (*request.platforms, here)[0], here)


def _lines(inputs: BuildInputs) -> Excerpts:
    return excerpts(inputs.dockerfile)


class _Images:
    """Answers the frontend's questions about base images: from the store, else from registries.

    One that cannot be had does not stop a check; it is an error of the answer.
    """

    def __init__(self, settings: _Settings, *, pull: bool) -> None:
        self._settings = settings
        self._pull = pull
        self._errors: dict[ImageRequest, UserError] = {}

    def answer(self, question: Callable[[_Known], T | NeedImages]) -> T:
        """Ask *question* again until it has an answer."""
        known: dict[ImageRequest, ResolvedImage] = {}
        while isinstance(answer := question(known), NeedImages):
            known |= self._resolve(answer)
        return answer

    def error_of(self, checked: Checked) -> UserError | None:
        """The first image, by line, that is needed and cannot be had."""
        for request, span in sorted(checked.unknown.items(), key=lambda item: item[1].first_line):
            return self._errors[request].copy_with(spans=(span,))
        return None

    def _resolve(self, need: NeedImages) -> _Known:
        from pybuild.engine.knownimages import KnownImages

        settings = self._settings()
        known: dict[ImageRequest, ResolvedImage] = {}
        if not self._pull:
            store = KnownImages(settings.root)
            for request in need.requests:
                image = store.find(request)
                if image is not None:
                    known[request] = image
        missing = [request for request in need.requests if request not in known]
        if missing:
            from pybuild.builds.checkinputs import resolve_all

            for request, outcome in resolve_all(missing, settings, pull=self._pull).items():
                if isinstance(outcome, ResolvedImage):
                    known[request] = outcome
                else:
                    name = request.reference.familiar
                    hints = need.hints(request)
                    self._errors[request] = UserError(f"{name}: {outcome.message}", hints=hints)
                    known[request] = ResolvedImage.unknown(request)
        return known
