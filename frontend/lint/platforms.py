"""``FROM --platform`` [LNT-14, LNT-17]."""

from __future__ import annotations

from typing import NamedTuple

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.syntax import ast
from pybuild.model.platform import Platform

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
    found: set[str]
    unset: set[str]


def check_platform(start: ast.From, flag: Expanded, target_platform: str, report: Report) -> None:
    """Look at the platform of one FROM.

    Args:
        target_platform: the value of the variable of that name.
    """
    if flag.found == {"TARGETPLATFORM"} and not flag.unset and flag.value == target_platform:
        report.add(REDUNDANT_TARGET_PLATFORM, start.platform, at=start)
    if flag.found or flag.unset:
        return
    try:
        platform = Platform.parse(flag.value)
    except ValueError:
        return  # an error soon
    if platform.os not in start.name and platform.arch not in start.name:
        report.add(FROM_PLATFORM_FLAG_CONST_DISALLOWED, flag.value, at=start)
