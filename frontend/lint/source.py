"""A file's text as something to make small changes in, everything else kept byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pybuild.frontend.syntax import ast
from pybuild.frontend.syntax.lines import LineReader, LogicalLine
from pybuild.frontend.syntax.physical import split_lines
from pybuild.frontend.words.gotext import SPACE
from pybuild.model.dataclass import dataclass

_BOM = b"\xef\xbb\xbf"
_WORD = re.compile(r"[^\t\v\f\r ]+")


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Columns *start* to *end* of line *line*, 1-based, become *text*; line ends are columns too."""

    line: int
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """The text of one instruction, continuations joined, and where its parts stand.

    Attributes:
        text: without space around it.
        offset: of *text* in the joined line.
    """

    text: str
    offset: int
    line: LogicalLine

    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each word in *text*; quotes do not count."""
        return [match.span() for match in _WORD.finditer(self.text)]

    def replace(self, start: int, end: int, text: str) -> list[Edit]:
        """Return the edit that puts *text* in the place of a part, none if it is spread over lines."""
        start, end = start + self.offset, end + self.offset
        at = 0
        for line, column, length in self.line.pieces:
            if at <= start and end <= at + length and (start < at + length or start == end):
                return [Edit(line, column + start - at, column + end - at, text)]
            at += length
        return []


class DockerfileLines:
    """The physical lines of a file."""

    def __init__(self, data: bytes, escape: str) -> None:
        self._mark = _BOM if data.startswith(_BOM) else b""
        self._lines = split_lines(data)
        self.escape = escape

    def line(self, number: int) -> str:
        """Return a line with its end; *number* counts from 1."""
        return self._lines[number - 1]

    def words(self, at: ast.Instruction) -> Words:
        """Return the text of an instruction that this file has."""
        reader = LineReader(self._lines, escape=self.escape, skip=at.span.first_line - 1)
        line = reader.next_line()
        assert line is not None
        start = len(line.text) - len(line.text.lstrip(SPACE))
        return Words(line.text.strip(SPACE), start, line)

    def edited(self, groups: Iterable[list[Edit]]) -> bytes:
        """Return the file with the edits made, each group whole or, where it overlaps another, not."""
        chosen: dict[int, list[Edit]] = {}
        for group in groups:
            if not any(_overlap(new, old) for new in group for old in chosen.get(new.line, ())):
                for edit in group:
                    chosen.setdefault(edit.line, []).append(edit)
        lines = list(self._lines)
        for number, edits in chosen.items():
            for edit in sorted(edits, reverse=True):
                line = lines[number - 1]
                lines[number - 1] = line[: edit.start] + edit.text + line[edit.end :]
        return self._mark + "".join(lines).encode("utf-8", "surrogateescape")


def _overlap(a: Edit, b: Edit) -> bool:
    return a.start <= b.end and b.start <= a.end
