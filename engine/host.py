"""The facts about this machine that builds need."""

from __future__ import annotations

import os
import time

from pybuild.model.errors import UsageError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.model.platform import Platform


class SystemClock:
    """The real time."""

    def now(self) -> float:
        return time.time()


def native_platform() -> Platform:
    """The platform of this machine."""
    from pybuild.model.platform import Platform

    try:
        return Platform.make("linux", os.uname().machine)
    except ValueError as error:
        raise UserError(f"this machine: {error}") from error


def platforms_from(text: str) -> tuple[Platform, ...]:
    """Read `--platform`; empty when not given.

    Raises:
        UsageError: one of them is none.
    """
    from pybuild.model.platform import Platform

    here = native_platform()
    platforms: list[Platform] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            platform = here if item == "local" else Platform.parse(item, here)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if platform not in platforms:
            platforms.append(platform)
    return tuple(platforms)
