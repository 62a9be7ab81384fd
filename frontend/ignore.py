"""Ignore files: ``.dockerignore`` and its kin [IGN]. The matching is in ``model/patterns.py``."""

from __future__ import annotations

from pybuild.frontend.expand import SPACE
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher, clean

Matcher = PatternMatcher


def parse_ignore(data: bytes) -> tuple[str, ...]:
    """Return the cleaned patterns of an ignore file, each checked [IGN-3, IGN-7].

    Bytes that are not UTF-8 become surrogates, as they do in file names.

    Raises:
        UserError: naming the line.
    """
    patterns: list[str] = []
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):  # in the first column only, so " # x" is a pattern [E206]
            continue
        pattern = line.strip(SPACE)
        if not pattern:
            continue
        is_negated = pattern.startswith("!")
        if is_negated:
            pattern = pattern[1:].strip(SPACE)
        if pattern:
            pattern = clean(pattern)
            if pattern != "/":
                pattern = pattern.removeprefix("/")
        pattern = "!" + pattern if is_negated else pattern
        try:
            PatternMatcher([pattern])
        except ValueError as error:
            raise UserError(f"ignore file line {number}: {error}") from None
        patterns.append(pattern)
    return tuple(patterns)
