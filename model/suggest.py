"""The name somebody probably meant [IN-6]."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


# Farther away than this, a guess is more confusing than none.
_MAX_DISTANCE = 2
_MAX_LENGTH = 100  # of a name that people type; comparing takes the product of two lengths


def nearest(name: str, options: Iterable[str], *, ignore_case: bool = False) -> str | None:
    """Return the option that is at most two edits away from *name* and nearest to it.

    None when there is no such option, or when *name* is one of them: then it is not the spelling
    that is wrong. Of equally near ones the first in alphabetical order. With *ignore_case* the
    answer comes in the casing of *name*.
    """
    if len(name) > _MAX_LENGTH:
        return None
    sought = name.lower() if ignore_case else name
    best, best_distance = None, _MAX_DISTANCE + 1
    for option in sorted(set(options)):
        candidate = option.lower() if ignore_case else option
        if candidate == sought:
            return None
        if abs(len(candidate) - len(sought)) >= best_distance:
            continue
        distance = _edits(sought, candidate, best_distance)
        if distance < best_distance:
            best, best_distance = option, distance
    if best is None or not ignore_case:
        return best
    return best.lower() if name.islower() else best.upper() if name.isupper() else best


def did_you_mean(name: str, options: Iterable[str], *, ignore_case: bool = False) -> str:
    """Return `` (did you mean x?)``, to be put behind a message, or nothing."""
    near = nearest(name, options, ignore_case=ignore_case)
    return f" (did you mean {near}?)" if near else ""


def _edits(a: str, b: str, limit: int) -> int:
    """Return the number of characters to add, drop, change or swap with a neighbour, at most *limit*.

    Swaps count as one (optimal string alignment): RNU is nearer to RUN than to ENV.
    """
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    a, b = a[start : len(a) - end], b[start : len(b) - end]  # what is equal costs nothing
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        above, row = row, [i]
        for j, other in enumerate(b, 1):
            distance = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (char != other))
            if i > 1 and j > 1 and char == b[j - 2] and a[i - 2] == other:
                distance = min(distance, before[j - 2] + 1)
            row.append(distance)
        before = above
        if min(row) >= limit and min(before) >= limit:
            return limit
    return row[-1]
