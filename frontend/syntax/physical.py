"""The physical lines of a file, each made when it is asked for.

A list of a million lines takes a hundred bytes more for each than the text itself does, and all but
a few are only passed over: heredocs may be files of many megabytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import overload


class Lines(Sequence[str]):
    """Lines with their line ends.

    Attributes:
        text: all of them.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = array("I", [0])
        at = text.find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = text.find("\n", at + 1)
        if self._starts[-1] < len(text):
            self._starts.append(len(text))

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        number = at if at >= 0 else at + len(self)
        if not 0 <= number < len(self):
            raise IndexError(at)
        return self.text[self._starts[number] : self._starts[number + 1]]

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self)):
            yield self.text[self._starts[number] : self._starts[number + 1]]

    def joined(self, first: int, end: int) -> str:
        """Return the text of the lines from *first* on, counted from 0, up to *end*."""
        return self.text[self._starts[first] : self._starts[end]]


class Excerpts(Sequence[str]):
    """Lines as errors show them: no line ends, no bytes that are not text.

    Args:
        lines: called when somebody looks for the first time.
    """

    def __init__(self, lines: Callable[[], Lines]) -> None:
        self._make = lines

    @cached_property
    def _lines(self) -> Lines:
        return self._make()

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [shown(line.rstrip("\r\n")) for line in self._lines[at]]
        return shown(self._lines[at].rstrip("\r\n"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Excerpts) and self._lines.text == other._lines.text

    __hash__ = None  # type: ignore[assignment]


def split_lines(data: bytes) -> Lines:
    """Return the physical lines; bytes that are not UTF-8 as surrogates.

    A byte-order mark at the start is dropped [IN-2].
    """
    return Lines(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))


def excerpts(data: bytes) -> Excerpts:
    """Return the lines of a file for errors to show."""
    return Excerpts(lambda: split_lines(data))


def shown(text: str) -> str:
    """Return *text* with what is not UTF-8 replaced."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
