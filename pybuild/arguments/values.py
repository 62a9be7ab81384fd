"""Values of options, parsed: pairs, hosts, limits, sizes, secrets."""

from __future__ import annotations

import os

from pybuild.model.errors import UsageError


def parse_pairs(items: list[str], what: str, *, from_environment: bool) -> dict[str, str]:
    """Read ``K=V`` items; ``K`` alone takes the environment's value, or is dropped [EV-3].

    Raises:
        UsageError: an empty name.
    """
    pairs: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key:
            raise UsageError(f'invalid {what} "{item}": expected NAME=value')
        if equals:
            pairs[key] = value
        elif not from_environment:
            pairs[key] = ""
        elif key in os.environ:
            pairs[key] = os.environ[key]
    return pairs
