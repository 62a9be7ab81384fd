"""A terminal as one of our streams: its control sequences are taken out of all that we print.

Most of what we print was written by others: Dockerfiles, file names, steps, images, registries and
servers. So nothing has to remember to clean it; a view that draws takes the stream beneath.
"""

from __future__ import annotations

import sys

from pybuild.model.printable import without_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


class TerminalGuard:
    """A text stream.

    Attributes:
        direct: the stream beneath, for writers that clean their own text.
    """

    def __init__(self, direct: TextIO) -> None:
        self.direct = direct

    def write(self, text: str) -> int:
        self.direct.write(without_controls(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.direct, name)


def guard(*names: str) -> None:
    """Put a guard before each of the standard streams called *names*."""
    for name in names:
        setattr(sys, name, TerminalGuard(getattr(sys, name)))


def direct(stream: TextIO) -> TextIO | None:
    """Return the stream beneath a guard; None if it is no terminal."""
    return stream.direct if isinstance(stream, TerminalGuard) else None
