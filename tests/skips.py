"""The summary of a run's skipped tests: how many for which reason, and what to install for them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_MOST = 15
_PACKAGES = re.compile(r"\((apt|pip) install ([\w.+-]+)\)")


def summary(reasons: Iterable[str]) -> list[str]:
    """Return a line a reason, the most frequent first, and the commands that install what was missing."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"{count:5} {reason}" for reason, count in ordered[:_MOST]]
    if rest := ordered[_MOST:]:
        tests = sum(count for _, count in rest)
        lines.append(f"{tests:5} for {len(rest)} other reasons, which -rs lists")
    for tool in ("apt", "pip"):
        found = [match for reason in counts if (match := _PACKAGES.search(reason))]
        packages = sorted({match[2] for match in found if match[1] == tool})
        if packages:
            tests = sum(counts[match.string] for match in found if match[1] == tool)
            lines.append(f"{tool} install {' '.join(packages)}    # up to {tests} more tests run")
    return lines
