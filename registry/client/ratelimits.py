"""A registry's limit of requests, read from its headers; pure.

Docker Hub counts pulls: ``RateLimit-Limit: 100;w=21600`` are a hundred in six hours. Others have the
headers of the IETF's draft, which look alike, or none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.reference import DOCKER_HUB

_VALUE = re.compile(r"\s*(\d{1,9})(?:\s*;\s*w\s*=\s*(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many requests in a window; None where it was not said."""

    limit: int | None = None
    remaining: int | None = None
    window_s: int | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> RateLimit:
        """Read the *headers* of an answer."""
        limit, remaining = (
            _VALUE.match(headers.get(f"RateLimit-{name}", "")) for name in ("Limit", "Remaining")
        )
        window = next((m[2] for m in (limit, remaining) if m is not None and m[2]), None)
        return cls(
            int(limit[1]) if limit else None,
            int(remaining[1]) if remaining else None,
            int(window) if window else None,
        )

    @property
    def is_used_up(self) -> bool:
        """Whether asking again soon is in vain."""
        return self.remaining == 0 and (self.window_s or 0) > 60

    def hint(self, registry: str, user: str = "") -> str:
        """The way out, for people; *user* is the name that the registry knows us by."""
        rule = f"{registry} limits how often it is asked"
        if self.limit is not None:
            rule = f"{registry} allows {self.limit} requests"
            rule += f" in {_period(self.window_s)}" if self.window_s else ""
            rule += f", {self.remaining} are left" if self.remaining is not None else ""
        if registry == DOCKER_HUB and not user:
            return f"{rule}: log in to get more, pull through a mirror, or try later"
        return f"{rule}: try later, or pull through a mirror"


def _period(seconds: int) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
