"""The frontend that a file asks for: Docker's own language, which is built in, or an image's [DIR-5, DIR-6]."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pybuild.frontend.lowering.contexts import NamedContexts
from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.directives import syntax_of
from pybuild.frontend.syntax.physical import split_lines
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span

BUILT_IN = "dockerfile.v0"
OVERRIDE = "BUILDKIT_SYNTAX"
_OURS = frozenset(("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"))
_LINE = re.compile(r"\s*(?:(?:#|//)\s*syntax\s*=|.*\"syntax\"\s*:)", re.IGNORECASE)
_FIRST_LINES = 20


@dataclass(frozen=True, slots=True)
class FrontendImage:
    """A frontend that is an image.

    Attributes:
        source: its name as written, or a named context's.
        cmdline: all of the value that names it.
        spans: where it is named.
    """

    source: str
    cmdline: str
    spans: tuple[Span, ...] = ()


class NeedsFrontend(UserError):
    """The file is in the language of a frontend *image*, which is not built in."""

    def __init__(self, image: FrontendImage) -> None:
        super().__init__(
            f"frontend {image.source} cannot be run: "
            "only the language of docker/dockerfile is built in",
            spans=image.spans,
            hints=("remove the syntax directive to read the file as an ordinary Dockerfile",),
        )
        self.image = image


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
    override = build_args.get(OVERRIDE, "")
    if not override and b"syntax" not in text.lower():
        return None
    lines = split_lines(text)
    return _image(override, syntax_of(lines), lines, filename, contexts, platform)


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
    override, lines = build_args.get(OVERRIDE, ""), dockerfile.lines
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
