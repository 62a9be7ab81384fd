"""Answers about a Dockerfile without a build of it, in this process [UI-6].

The engine, its event loop and its HTTP client are imported only when a registry must be asked.
"""

from __future__ import annotations

from collections.abc import Callable

from pybuild.builds.contextkinds import is_at_hand
from pybuild.builds.contexts import load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.host import native_platform
from pybuild.engine.settings import Settings
from pybuild.frontend.lowering.interface import NeedImages, Pull
from pybuild.frontend.question import FileAnswer, FileQuestion, Outcomes, Question
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.errors import PybuildError


def answer_here(
    question: Question, request: BuildRequest, settings: Callable[[], Settings]
) -> FileAnswer:
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
    here = native_platform()
    options = lower_options(request, inputs, (*request.platforms, here)[0], here)
    try:
        file = FileQuestion(question, inputs.dockerfile, inputs.filename, options)
        while isinstance(answer := file.run(), NeedImages):
            file.add(answer, _images(answer, settings(), pull=request.pull))
    except PybuildError as error:
        shown = error.showing({inputs.filename: excerpts(inputs.dockerfile)})
        raise shown from error.__cause__
    return answer


def _images(need: NeedImages, settings: Settings, *, pull: Pull) -> Outcomes:
    """Look base images up: in the store, else in registries."""
    from pybuild.engine.knownimages import KnownImages

    stored = KnownImages(settings.root)
    known = {
        request: image
        for request in need.requests
        if not pull and (image := stored.find(request)) is not None
    }
    missing = [request for request in need.requests if request not in known]
    if not missing:
        return known
    from pybuild.builds.checkinputs import resolve_all

    return {**known, **resolve_all(missing, settings, pull=pull)}
