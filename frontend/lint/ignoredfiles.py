"""Sources that the ignore file keeps out of the context [LNT-18]."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from posixpath import normpath

from pybuild.frontend.lint.report import Report
from pybuild.frontend.lint.rule import Rule
from pybuild.frontend.lowering import paths
from pybuild.frontend.syntax import ast
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher

COPY_IGNORED_FILE = Rule(
    name="CopyIgnoredFile",
    description="What the ignore file excludes is not in the build context",
    message='Attempting to {0} file "{1}" that is excluded by .dockerignore'.format,
)

_ALL = frozenset(("*", "**", "**/*"))


def check_ignored(
    at: ast.Copy | ast.Add, sources: Iterable[str], exclude: tuple[str, ...], report: Report
) -> None:
    """Report the sources, expanded and from the main context, that *exclude* covers.

    Nothing is said where an exception exists, since something below may well be there; the root
    counts only where a pattern takes all of it.

    Raises:
        UserError: the ignore file has a malformed pattern [IGN-7].
    """
    if not exclude or any(pattern.startswith("!") for pattern in exclude):
        return
    matcher = _matcher(exclude)
    verb = "Copy" if isinstance(at, ast.Copy) else "Add"
    for source in sources:
        path = paths.clean(source).lstrip("/")
        if matcher.matches(path) if path else not _ALL.isdisjoint(exclude):
            report.add(COPY_IGNORED_FILE, verb, normpath(source), at=at)


@lru_cache(maxsize=4)
def _matcher(exclude: tuple[str, ...]) -> PatternMatcher:
    try:
        return PatternMatcher(exclude)
    except ValueError as error:
        raise UserError(f".dockerignore: {error}") from error
