"""Excerpts of a text: the marked lines, two around, and no more than one can read."""

from __future__ import annotations

import pytest

from pybuild.model.excerpt import excerpt
from pybuild.model.printable import in_log, printable
from pybuild.model.span import Span

LINES = [f"line {number}" for number in range(1, 101)]


def numbers(first: int, last: int, lines: list[str] = LINES) -> list[str]:
    return excerpt(Span("D", first, last), lines)[1:]


def test_without_lines_only_the_place_is_said() -> None:
    assert excerpt(Span("D", 3, 4), None) == ["D:3"]


def test_two_lines_stand_around_the_marked_ones() -> None:
    assert excerpt(Span("D", 4, 5), LINES) == [
        "D:4",
        "   2 |     line 2",
        "   3 |     line 3",
        "   4 | >>> line 4",
        "   5 | >>> line 5",
        "   6 |     line 6",
        "   7 |     line 7",
    ]


@pytest.mark.parametrize(
    ("first", "last", "begin", "end"),
    [(1, 1, 1, 3), (2, 2, 1, 4), (3, 3, 1, 5), (100, 100, 98, 100), (99, 99, 97, 100), (98, 98, 96, 100)],
)  # fmt: skip
def test_at_the_ends_there_are_fewer(first: int, last: int, begin: int, end: int) -> None:
    shown = [int(line.partition("|")[0]) for line in numbers(first, last)]
    assert shown == list(range(begin, end + 1))


def test_of_a_long_span_the_beginning_is_shown() -> None:
    assert len(numbers(3, 32)) == 2 + 30 + 2
    shown = numbers(3, 33)
    assert len(shown) == 2 + 30 + 1
    assert shown[-2:] == ["  32 | >>> line 32", "     | >>> … 1 more lines"]


def test_a_span_may_end_after_the_text() -> None:
    assert numbers(100, 200)[-1] == " 100 | >>> line 100"


def test_numbers_are_aligned_and_empty_lines_have_no_blanks() -> None:
    lines = [""] * 12_345
    assert numbers(12_345, 12_345, lines) == [" 12343 |", " 12344 |", " 12345 | >>>"]


def test_long_lines_are_clipped() -> None:
    assert numbers(1, 1, ["x" * 200])[0] == "   1 | >>> " + "x" * 200
    assert numbers(1, 1, ["x" * 201])[0] == "   1 | >>> " + "x" * 199 + "…"


def test_what_does_not_print_is_escaped() -> None:
    assert printable("ä b") == "ä b"
    assert printable("a\nb\x1b\u202e\udcff") == "a\\nb\\x1b\\xe2\\x80\\xae\\xff"


def test_lines_in_a_log_begin_as_none_of_its_own() -> None:
    assert in_log("one") == "one"
    assert in_log("one\ntwo\x1b\n\n") == "one\n| two\\x1b"
