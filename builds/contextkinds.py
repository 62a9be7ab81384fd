"""The kinds of places that a text for a context or a Dockerfile can name [CTX-1, NC-1]."""

from __future__ import annotations

import os
from enum import Enum, auto

from pybuild.builds.request import BuildRequest
from pybuild.builds.standardinput import StandardInput
from pybuild.frontend.giturl import GitUrl, is_http, parse_git_url, without_credentials
from pybuild.model.errors import UserError


class ContextKind(Enum):
    DIRECTORY = auto()
    STANDARD_INPUT = auto()
    GIT = auto()
    HTTP = auto()


def kind_of(context: str) -> ContextKind:
    """Return the kind of *context*; a directory that is there wins over every other reading.

    Raises:
        UserError: a git URL whose query is wrong.
    """
    if context == "-":
        return ContextKind.STANDARD_INPUT
    if os.path.isdir(context):
        return ContextKind.DIRECTORY
    if parse_git_url(context, is_context=True) is not None:
        return ContextKind.GIT
    return ContextKind.HTTP if is_http(context) else ContextKind.DIRECTORY


def git_context(context: str) -> GitUrl:
    """Read a context of that kind."""
    url = parse_git_url(context, is_context=True)
    if url is None:
        raise UserError(f'invalid git context "{context}"')
    return url


def is_remote_name(source: str) -> bool:
    """Whether a named context is no directory of ours, and left to the frontend to read."""
    if os.path.isdir(source):
        return False
    return "://" in source or source.startswith(("target:", "input:", "git@"))


def is_at_hand(request: BuildRequest, stdin: StandardInput) -> bool:
    """Whether a build can be prepared from local files alone; may wait for standard input."""
    if request.dockerfile_text is None and is_http(request.dockerfile):
        return False
    match kind_of(request.context):
        case ContextKind.DIRECTORY:
            return True
        case ContextKind.STANDARD_INPUT:
            # With the Dockerfile elsewhere it must be an archive; that is for others to say.
            return request.dockerfile == "-" or not stdin.is_archive()
        case _:
            return False


def origin_of(request: BuildRequest) -> tuple[str, str, str]:
    """Return the build's origin: its context, and the Dockerfile and target in that.

    The next build of the same takes the place of its result (`pybuild.cache.content.origins`). A repository
    is the same at whichever commit.
    """
    context, dockerfile = request.context, request.dockerfile or "Dockerfile"
    if request.dockerfile_text is not None:
        dockerfile = "-"
    if kind_of(context) is ContextKind.DIRECTORY:
        context = os.path.realpath(context)
        if request.dockerfile and request.dockerfile_text is None and not is_http(dockerfile):
            dockerfile = os.path.relpath(os.path.realpath(dockerfile), context)
    else:
        context = without_credentials(context).partition("#")[0]
    return context, dockerfile, request.target
