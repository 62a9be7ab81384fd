"""The frontend that a file asks for: Docker's own language, which is built in, or an image's [DIR-5, DIR-6]."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pybuild.frontend.lowering.contexts import NamedContexts
from pybuild.frontend.lowering.interface import SYNTAX_ARG, FrontendImage, NeedsFrontend
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.directives import syntax_of
from pybuild.frontend.syntax.physical import split_lines
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span

BUILT_IN = "dockerfile.v0"
_OURS = frozenset(("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"))
_LINE = re.compile(r"\s*(?:(?:#|//)\s*syntax\s*=|.*\"syntax\"\s*:)", re.IGNORECASE)
_FIRST_LINES = 20


def frontend_image(
    text: bytes,
    filename: str,
    build_args: Mapping[str, str],
    contexts: NamedContexts,
    platform: Platform,
) -> FrontendImage | None:
    """Return the frontend image that a file or a build argument asks for; None for what is built in.

    Raises:
        UserError: the name cannot be one.
    """
    override, lines = build_args.get(SYNTAX_ARG, ""), split_lines(text)
    return _image(override, syntax_of(lines), lines, filename, contexts, platform)


def check_file(
    text: bytes,
    filename: str,
    build_args: Mapping[str, str],
    contexts: NamedContexts,
    platform: Platform,
) -> None:
    """Accept a file whose language is built in, before it is parsed.

    Raises:
        NeedsFrontend: it asks for a frontend image. UserError: the name cannot be one.
    """
    image = frontend_image(text, filename, build_args, contexts, platform)
    if image is not None:
        raise NeedsFrontend(image)


def check_frontend(
    dockerfile: ast.Dockerfile,
    build_args: Mapping[str, str],
    contexts: NamedContexts,
    platform: Platform,
) -> None:
    """Accept Docker's own frontend image, whose language is built in.

    Raises:
        NeedsFrontend: the file, or the build arg that overrides it, asks for another one.
        UserError: the name cannot be one.
    """
    override, lines = build_args.get(SYNTAX_ARG, ""), dockerfile.lines
    syntax = dockerfile.directives.syntax
    image = _image(override, syntax, lines, dockerfile.filename, contexts, platform)
    if image is not None:
        raise NeedsFrontend(image)


def is_built_in(source: str) -> bool:
    """Whether the image *source* is one whose language is built in.

    Raises:
        ValueError: it is no image's name.
    """
    return source == BUILT_IN or Reference.parse(source).repository in _OURS


def _image(
    override: str,
    syntax: str | None,
    lines: Sequence[str],
    filename: str,
    contexts: NamedContexts,
    platform: Platform,
) -> FrontendImage | None:
    cmdline = (override or syntax or "").strip()
    words = cmdline.split()
    if not words or words[0] == BUILT_IN:
        return None
    spans = () if override else _spans(lines, filename)
    try:
        known = is_built_in(words[0])
    except ValueError as error:
        raise UserError(f"invalid frontend: {error}", spans=spans) from error
    if known and contexts.find(words[0].partition("@")[0], platform) is None:
        return None
    return FrontendImage(words[0], cmdline, spans)


def _spans(lines: Sequence[str], filename: str) -> tuple[Span, ...]:
    for number, line in enumerate(lines[:_FIRST_LINES], 1):
        if _LINE.match(line):
            return (Span(filename, number, number),)
    return ()
