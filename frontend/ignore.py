"""Ignore files: ``.dockerignore`` and its kin [IGN]. The matching is in ``model/patterns.py``."""

from __future__ import annotations

from pybuild.frontend.words.gotext import SPACE
from pybuild.model.errors import UserError
from pybuild.model.patterns import PatternMatcher, clean, has_wildcard

# Far beyond any that people or programs write. Patterns with wildcards cost a hundred times more.
MAX_BYTES = 16 * 1024 * 1024
MAX_PATTERNS = 100_000
MAX_WILDCARD_CHARS = 256 * 1024


def parse_ignore(data: bytes) -> tuple[str, ...]:
    """Return the cleaned patterns of an ignore file, each checked [IGN-3, IGN-7].

    Bytes that are not UTF-8 become surrogates, as they do in file names.

    Raises:
        UserError: naming the line.
    """
    if len(data) > MAX_BYTES:
        raise UserError(f"the ignore file is larger than {MAX_BYTES} bytes")
    patterns: list[str] = []
    wildcard_chars = 0
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
        if has_wildcard(pattern) or pattern == "!":  # others cannot be malformed
            wildcard_chars += len(pattern)
            if wildcard_chars > MAX_WILDCARD_CHARS:
                raise UserError(
                    f"ignore file line {number}: more than {MAX_WILDCARD_CHARS} characters of"
                    " patterns with wildcards"
                )
            try:
                PatternMatcher([pattern])
            except ValueError as error:
                raise UserError(f"ignore file line {number}: {error}") from None
        patterns.append(pattern)
        if len(patterns) > MAX_PATTERNS:
            raise UserError(f"the ignore file has more than {MAX_PATTERNS} patterns")
    return tuple(patterns)
