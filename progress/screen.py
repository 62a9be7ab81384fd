"""Lines of progress: text for a terminal, no wider than it is, and the numbered lines of logs.

Lean: what a fully cached build shows is made of these, too.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

BLUE, RED, YELLOW, GREY, _RESET = "\x1b[34m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_ROLES = {"run": BLUE, "error": RED, "cancel": YELLOW, "warning": YELLOW}
"""The colours that ``$BUILDKIT_COLORS`` can change, by the names that it has for them."""


def numbered(number: int, text: str) -> str:
    """Return a line of the log: one line, whatever *text* holds, that begins with a number of ours."""
    return f"#{number} {' '.join(text.splitlines())}\n"


def step_row(label: str, timer: str, columns: int) -> str:
    """Return a step's line: its label at the left, its time at the right."""
    room = max(1, columns - len(timer) - 5)
    return fit(f" => {pad(fit(label, room), room)} {timer}", columns)


def painted(text: str, colour: str) -> str:
    """Return *text* in a colour, or in the user's in its place, unless the user wants none."""
    if not colour or not may_colour():
        return text
    if "BUILDKIT_COLORS" in os.environ and colour != GREY:
        from pybuild.progress.colours import chosen

        colour = chosen(os.environ["BUILDKIT_COLORS"], _ROLES, colour)
    return f"{colour}{text}{_RESET}"


def may_colour() -> bool:
    """Whether a terminal may be sent colours: ``NO_COLOR``, ``FORCE_COLOR`` and ``TERM`` say so."""
    environ = os.environ
    if environ.get("FORCE_COLOR", "0") not in ("", "0", "false"):
        return True
    return "NO_COLOR" not in environ and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal knows no cursor, so that nothing can be drawn over."""
    return os.environ.get("TERM") == "dumb"


def result_line(names: Iterable[str], image_id: str) -> str:
    """Return the last line of a build that made an image: its names, or how it is kept, and its ID."""
    shown = ", ".join(_familiar(name) for name in names)
    short = image_id.partition(":")[2][:12]
    if shown:
        return f"image {shown} ({short})\n"
    return f"untagged: kept as {short}, until its next build (name it with -t NAME)\n"


def _familiar(name: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def clean(text: str) -> str:
    """Take out sequences that would move the cursor: steps are not trusted with the terminal."""
    from pybuild.model.printable import without_controls  # logs of cached builds need none of it

    return without_controls(text.replace("\t", "    ").replace("\n", " "))


def size_of(out: TextIO) -> os.terminal_size:
    """Return the size of the terminal that is drawn on; standard output may be a file."""
    try:
        size = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):  # io.UnsupportedOperation is a ValueError
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or 80, size.lines or 24))


def width(text: str) -> int:
    """Columns that *text*, free of control characters, takes [Unicode annex 11]."""
    return len(text) if text.isascii() else sum(_columns(text))


def fit(text: str, columns: int) -> str:
    """Cut *text* so that it takes at most *columns*, and say so with an ellipsis."""
    if width(text) <= columns:
        return text
    kept = 0
    room = columns - 1
    for taken in _columns(text):
        room -= taken
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…" if columns > 0 else ""


def pad(text: str, columns: int) -> str:
    """Fill *text* up with blanks to *columns*."""
    return text + " " * (columns - width(text))


def _columns(text: str) -> Iterator[int]:
    """Yield the columns of each character."""
    import unicodedata  # most text is ASCII

    for char in text:
        if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
            yield 0
        else:
            yield 2 if unicodedata.east_asian_width(char) in "WF" else 1


def show_steps(steps: list[list[str]], progress: str) -> None:
    """Show the end of the chosen progress view when every step is cached."""
    from pybuild.progress.screen import is_dumb

    out = sys.stderr
    if progress == "plain" or (progress == "auto" and (not out.isatty() or is_dumb())):
        from pybuild.progress.screen import numbered

        lines = [
            f"{numbered(number, name)}{numbered(number, word)}\n"
            for number, (name, word) in enumerate(steps, 1)
        ]
        out.write("".join(lines))  # as one: standard error goes out with each line
        return
    from pybuild.progress.screen import BLUE, clean, fit, painted, size_of, step_row
    from pybuild.progress.terminalguard import direct

    out = direct(out) or out
    columns = size_of(out).columns
    lines = [fit(f"[+] Building 0.0s ({len(steps)}/{len(steps)}) FINISHED", columns - 1)]
    for name, word in steps:
        label = clean(f"CACHED {name}" if word == "CACHED" else name)
        lines.append(painted(step_row(label, "0.0s", columns), BLUE))
    out.write("\n".join([*lines, ""]))
