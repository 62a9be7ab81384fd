"""Columns and times, as lists of images show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pybuild.commands.images import age, parse_reference, table
from pybuild.model.errors import UsageError


def test_columns_are_three_blanks_apart_and_lines_end_with_text() -> None:
    assert table([["A", "LONG", "C"], ["one", "b", ""]]) == "A     LONG   C\none   b\n"
    assert table([["x\x1b[2J"]]) == "x\\x1b[2J\n"


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-30), "0 seconds ago"),
        (timedelta(seconds=1.5), "1 second ago"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(minutes=59), "59 minutes ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=23), "23 hours ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=6), "6 days ago"),
        (timedelta(weeks=1), "1 week ago"),
        (timedelta(days=29), "4 weeks ago"),
        (timedelta(days=30), "1 month ago"),
        (timedelta(days=364), "12 months ago"),
        (timedelta(days=365), "1 year ago"),
        (timedelta(days=731), "2 years ago"),
    ],
)
def test_ages_are_told_in_their_largest_unit(ago: timedelta, words: str) -> None:
    moment = datetime.now(UTC) - ago
    assert age(moment.isoformat()) == words
    assert age(moment.replace(tzinfo=None).isoformat()) == words  # others' images have such times


def test_an_age_that_nobody_knows() -> None:
    assert age("") == age("yesterday") == "N/A"


def test_a_name_that_somebody_typed() -> None:
    assert str(parse_reference("a")) == "docker.io/library/a:latest"
    with pytest.raises(UsageError, match="invalid reference format"):
        parse_reference("a b")
