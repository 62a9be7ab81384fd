"""Base images: variables and defaults in FROM, and the registry's answers [LNT-9, LNT-16, LNT-22]."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast
from pybuild.frontend.words.expand import expand
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference
from pybuild.model.span import Span

UNDEFINED_ARG_IN_FROM = Rule(
    name="UndefinedArgInFrom",
    description="FROM can only use arguments that are declared above the first FROM",
    message="FROM argument '{0}' is not declared{1}".format,
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    name="InvalidDefaultArgInFrom",
    description="Without build arguments the name of the base image is empty or invalid",
    message="Default value for ARG {0} results in empty or invalid base image name".format,
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    name="InvalidBaseImagePlatform",
    description="The base image was made for another platform than the one asked for",
    message='Base image {0} was pulled with platform "{1}", expected "{2}" for current build'.format,
)


def check_from_arguments(
    start: ast.From, unset: Iterable[str], declared: Collection[str], report: Report
) -> None:
    """Report the variables of FROM that had no value and are not declared either."""
    for name in sorted(unset):
        if name not in declared:
            near = report.guess(name, declared)
            guess = f" (did you mean {near}?)" if near else ""
            report.add(UNDEFINED_ARG_IN_FROM, name, guess, at=start)


def check_defaults(
    stages: tuple[ast.Stage, ...], defaults: Mapping[str, str], escape: str, report: Report
) -> None:
    """See whether each FROM makes sense with *defaults*, the scope as it is without build args."""
    for stage in stages:
        start = stage.start
        try:
            Reference.parse(expand(start.base, defaults, escape=escape))
        except UserError:
            return  # the build fails for the same reason and says so
        except ValueError:
            report.add(INVALID_DEFAULT_ARG_IN_FROM, start.base, at=start, skippable=False)


class Pulled(NamedTuple):
    """A base image as FROM names it, what was expected of it and what it says it is."""

    name: str
    expected: Platform
    actual: Platform


def check_base_platform(
    image: Pulled, at: ast.Instruction, spans: tuple[Span, ...], report: Report
) -> None:
    """Compare system and architecture; variants run on each other."""
    name, expected, actual = image
    if (expected.os, expected.arch) != (actual.os, actual.arch):
        values = (name, str(actual), str(expected))
        report.add(INVALID_BASE_IMAGE_PLATFORM, *values, at=at, spans=spans, skippable=False)
