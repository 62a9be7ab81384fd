"""FROM: names of stages, base images and their platforms [LNT-1, LNT-5, LNT-6, LNT-9, LNT-14, LNT-16, LNT-17, LNT-22]."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pybuild.frontend.lint.options import Rule
from pybuild.frontend.lint.report import Report
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


REDUNDANT_TARGET_PLATFORM = Rule(
    name="RedundantTargetPlatform",
    description="A base image is taken for the target platform unless something else is said",
    message=(
        "Setting platform to predefined {0} in FROM is redundant as this is the default behavior"
    ).format,
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    name="FromPlatformFlagConstDisallowed",
    description="A stage with a fixed platform cannot be built for another one",
    message='FROM --platform flag should not use constant value "{0}"'.format,
)


class Expanded(NamedTuple):
    """The value of a flag, and the variables in it that had a value and that had none."""

    value: str
    used: set[str]
    unset: set[str]


def check_platform(start: ast.From, flag: Expanded, target_platform: str, report: Report) -> None:
    """Look at the platform of one FROM.

    Args:
        target_platform: the value of the variable of that name.
    """
    if flag.used == {"TARGETPLATFORM"} and not flag.unset and flag.value == target_platform:
        report.add(REDUNDANT_TARGET_PLATFORM, start.platform, at=start)
    if flag.used or flag.unset:
        return
    try:
        platform = Platform.parse(flag.value)
    except ValueError:
        return  # an error soon
    if platform.os not in start.name and platform.arch not in start.name:
        report.add(FROM_PLATFORM_FLAG_CONST_DISALLOWED, flag.value, at=start)


STAGE_NAME_CASING = Rule(
    name="StageNameCasing",
    description="A stage is found by its name in lower case, whatever it was called",
    message="Stage name '{0}' should be lowercase".format,
)
DUPLICATE_STAGE_NAME = Rule(
    name="DuplicateStageName",
    description="Of two stages with one name, only the later can be used from then on",
    message='Duplicate stage name "{0}", stage names should be unique'.format,
)
RESERVED_STAGE_NAME = Rule(
    name="ReservedStageName",
    description="The names scratch and context already mean something",
    message='Stage name should not use the same name as reserved stage "{0}"'.format,
)

_RESERVED = frozenset(("scratch", "context"))


def check_stage_name_casing(start: ast.From, report: Report) -> None:
    if start.name_as_written != start.name_as_written.lower():
        report.add(STAGE_NAME_CASING, start.name_as_written, at=start)


def check_stage_names(dockerfile: ast.Dockerfile, report: Report) -> None:
    """Compare the names of all stages."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        start = stage.start
        if start.name in _RESERVED:
            report.add(RESERVED_STAGE_NAME, start.name, at=start, skippable=False)
        if start.name and start.name in seen:
            report.add(DUPLICATE_STAGE_NAME, start.name, at=start, skippable=False)
        seen.add(start.name)
