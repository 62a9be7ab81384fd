"""The protocol of a view, and the choice of one."""

from __future__ import annotations

import sys
from typing import Protocol

from pybuild.model.errors import UsageError
from pybuild.model.events import Event
from pybuild.progress.screen import is_dumb
from pybuild.progress.terminalguard import direct

KINDS = ("auto", "tty", "plain", "quiet", "none", "rawjson")


class Display(Protocol):
    """Shows events as they come. Called from one thread at a time."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None:
        """Leave the terminal as a person expects it; nothing is shown afterwards."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, event: Event) -> None:
        pass

    def close(self) -> None:
        pass


def make_display(kind: str, doing: str = "Building") -> Display:
    """Return the view called *kind*; ``auto`` is tty when standard error is a terminal [PRG-1].

    Args:
        doing: the word above the steps on a terminal.

    Raises:
        UsageError: no view of that name.
    """
    stream = sys.stderr
    if kind not in KINDS:
        raise UsageError(f'unknown progress "{kind}": one of {", ".join(KINDS)}')
    if kind == "auto":
        kind = "tty" if stream.isatty() and not is_dumb() else "plain"
    match kind:
        case "tty":
            from pybuild.progress.tty import TtyDisplay

            return TtyDisplay(direct(stream) or stream, doing=doing)
        case "plain":
            from pybuild.progress.plain import PlainDisplay

            return PlainDisplay(stream)
        case "rawjson":
            from pybuild.progress.rawjson import RawJsonDisplay

            return RawJsonDisplay(stream)
        case _:
            return Silent()
