"""Places in a Dockerfile."""

from __future__ import annotations

from dataclasses import field

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Lines *first_line* to *last_line* of *file*, both 1-based and included.

    Attributes:
        column: in the first line, where a client's frontend said it.
    """

    file: str
    first_line: int
    last_line: int
    column: int = field(default=0, compare=False)
