"""Places in a Dockerfile."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Lines *first_line* to *last_line* of *file*, both 1-based and included."""

    file: str
    first_line: int
    last_line: int
