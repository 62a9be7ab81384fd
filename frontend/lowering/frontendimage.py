"""The frontend that a file requests; only this one can be had [DIR-5, DIR-6]."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pybuild.frontend.lowering.contexts import NamedContexts
from pybuild.frontend.syntax import ast
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span

_OURS = frozenset(("docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream"))
_BUILT_IN = "dockerfile.v0"
_LINE = re.compile(r"\s*(?:#|//)\s*syntax\s*=", re.IGNORECASE)


def check_frontend(
    dockerfile: ast.Dockerfile,
    build_args: Mapping[str, str],
    contexts: NamedContexts,
    platform: Platform,
) -> None:
    """Accept Docker's own frontend image, whose language is built in.

    Raises:
        UserError: the file, or the build arg that overrides it, asks for another one.
    """
    override = build_args.get("BUILDKIT_SYNTAX")
    words = (override or dockerfile.directives.syntax or "").split()
    if not words or words[0] == _BUILT_IN:
        return
    name = words[0]
    spans = () if override else _spans(dockerfile)
    try:
        known = Reference.parse(name).repository in _OURS
    except ValueError as error:
        raise UserError(f"invalid frontend: {error}", spans=spans) from error
    if not known or contexts.find(name.partition("@")[0], platform) is not None:
        raise UserError(
            f"frontend {name} cannot be run: only the language of docker/dockerfile is built in",
            spans=spans,
            hints=("remove the syntax directive to read the file as an ordinary Dockerfile",),
        )


def _spans(dockerfile: ast.Dockerfile) -> tuple[Span, ...]:
    for number, line in enumerate(dockerfile.lines[:20], 1):
        if _LINE.match(line):
            return (Span(dockerfile.filename, number, number),)
    return ()
