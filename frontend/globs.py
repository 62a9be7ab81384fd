"""Patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}`` [EXP-11..13], matched in linear time.

Nothing but ``*`` and ``?``, so a pattern is a row of runs of fixed length with stars between, and
the classic argument holds: taking each middle run at its first place never loses a match, and
the last run is taken at its first place for the shortest match, at its last for the longest.
A backtracking engine asked the same question can be kept busy for years.
"""

from __future__ import annotations

import re

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

# More than any value that a program could be started with; variables in a pattern can make it long.
_MAX_PATTERN = 256 * 1024

# One character each: a literal one, or None for any.
_Run = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern: runs, with a star between each two of them; at least one run."""

    runs: tuple[_Run, ...]

    @classmethod
    def parse(cls, pattern: str) -> Glob:
        """Read *pattern*, in which a backslash makes ``* ? \\ } /`` literal, else is an error."""
        if len(pattern) > _MAX_PATTERN:
            raise UserError(f"pattern of more than {_MAX_PATTERN} characters in a substitution")
        runs: list[list[str | None]] = [[]]
        at = 0
        while at < len(pattern):
            char = pattern[at]
            at += 1
            if char == "*":
                runs.append([])
            elif char == "?":
                runs[-1].append(None)
            elif char == "\\":
                escaped = pattern[at : at + 1]
                if not escaped or escaped not in "*?\\}/":
                    raise UserError(
                        f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'"
                    )
                runs[-1].append(escaped)
                at += 1
            else:
                runs[-1].append(char)
        return cls(tuple(tuple(run) for run in runs))

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """Remove the shortest or longest match at the start of *value*, if there is one."""
        span = self._find(value, 0, longest=longest, anchored=True)
        return value if span is None else value[span[1] :]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """The same at the end: a suffix is a prefix read backwards."""
        mirrored = Glob(tuple(run[::-1] for run in self.runs[::-1]))
        return mirrored.without_prefix(value[::-1], longest=longest)[::-1]

    def replace(self, value: str, replacement: str, *, every: bool, limit: int) -> str:
        """Put *replacement* in place of the first, or every, longest match; unanchored [EXP-12].

        Raises:
            UserError: the result would be longer than *limit* characters.
        """
        out: list[str] = []
        size = at = 0
        last_end = -1
        while at <= len(value):
            span = self._find(value, at, longest=True, anchored=False)
            if span is None:
                break
            start, end = span
            if start == end == last_end:  # an empty match must not touch the one before
                out.append(value[at : at + 1])
                at += 1
                last_end = -1
                continue
            out += (value[at:start], replacement)
            size += start - at + len(replacement)
            if size > limit:
                raise UserError(f"expansion is longer than {limit} characters")
            at = last_end = end
            if not every:
                break
        out.append(value[at:])
        return "".join(out)

    def _find(
        self, value: str, at: int, *, longest: bool, anchored: bool
    ) -> tuple[int, int] | None:
        first, *others = self.runs
        start = _first(first, value, at) if not anchored else at
        if start < 0 or (anchored and not _regex(first).match(value, at)):
            return None
        end = start + len(first)
        if not others:
            return start, end
        # The leftmost start is also the only one worth trying: from a later one, less is left.
        for run in others[:-1]:
            next_at = _first(run, value, end)
            if next_at < 0:
                return None
            end = next_at + len(run)
        last = others[-1]
        next_at = _last(last, value, end) if longest else _first(last, value, end)
        return None if next_at < 0 else (start, next_at + len(last))


def _regex(run: _Run) -> re.Pattern[str]:
    return re.compile("".join("." if c is None else re.escape(c) for c in run), re.DOTALL)


def _first(run: _Run, value: str, at: int) -> int:
    """Return the first offset from *at* on where *run* matches, or -1."""
    match = _regex(run).search(value, at)
    return match.start() if match else -1


def _last(run: _Run, value: str, at: int) -> int:
    """Return the last offset from *at* on where *run* matches, or -1."""
    regex = _regex(run)
    for start in range(len(value) - len(run), at - 1, -1):
        if regex.match(value, start):
            return start
    return -1
