"""Sources that the ignore file keeps out of the context [LNT-18]."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pybuild.frontend import paths
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher

_ALL = frozenset(("*", "**", "**/*"))


def ignored_sources(sources: Iterable[str], exclude: tuple[str, ...]) -> list[str]:
    """Return the sources that *exclude* covers.

    Nothing is said where an exception exists, since something below may well be there; the root
    counts only where a pattern takes all of it.

    Raises:
        UserError: the ignore file has a malformed pattern [IGN-7].
    """
    if not exclude or any(pattern.startswith("!") for pattern in exclude):
        return []
    matcher = _matcher(exclude)
    found: list[str] = []
    for source in sources:
        path = paths.clean(source).lstrip("/")
        if matcher.matches(path) if path else not _ALL.isdisjoint(exclude):
            found.append(path or source)
    return found


@lru_cache(maxsize=4)
def _matcher(exclude: tuple[str, ...]) -> PatternMatcher:
    try:
        return PatternMatcher(exclude)
    except ValueError as error:
        raise UserError(f".dockerignore: {error}") from error
