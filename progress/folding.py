"""Errors as a terminal of some width shows them: no line is broken where the terminal happens to end."""

from __future__ import annotations

import re

from pybuild.progress.screen import fit, width

_LED = re.compile(r"(error: (?:internal: )?|hint: | > | - |\| )")
_CODE = re.compile(r" *\d* \| ")
_LEAST = 20
"""Columns of a terminal that is narrower than any text."""


def folded(text: str, columns: int) -> str:
    """Return the lines of *text*, folded between words where they are longer than *columns*.

    What goes on stands below its beginning. Lines of a Dockerfile are cut, all else is shown whole.
    """
    if columns < _LEAST:
        return text
    return "\n".join(_folded(line, columns) for line in text.split("\n"))


def _folded(line: str, columns: int) -> str:
    if width(line) <= columns:
        return line
    if _CODE.match(line):
        return fit(line, columns)
    led = _LED.match(line)
    lead = led[1] if led else ""
    below = lead if lead == "| " else " " * len(lead)
    rows: list[str] = []
    rest, room = line[len(lead) :], columns - len(lead)
    while width(rest) > room:
        kept = len(fit(rest, room + 1)) - 1  # its last letter is the ellipsis
        space = rest.rfind(" ", 1, kept + 1)
        end = space if space > 0 else max(1, kept)
        rows.append(rest[:end])
        rest = rest[end:].lstrip(" ")
    rows.append(rest)
    return "\n".join((below if number else lead) + row for number, row in enumerate(rows))
