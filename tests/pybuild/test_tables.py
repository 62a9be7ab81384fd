"""Columns and times, as lists of images show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pybuild.cache.content.imagelist import age, moment
from pybuild.model.errors import UsageError
from pybuild.model.listing import table
from pybuild.model.reference import parse_reference


def test_columns_are_three_blanks_apart_and_lines_end_with_text() -> None:
    rows = [["A", "LONG", "C"], ["one", "b", ""]]
    assert table(rows) == "A     LONG   C\none   b\n"
    assert table(rows, 7) == "A         LONG      C\none       b\n"
    assert table([["x\x1b[2J"]]) == "x\\x1b[2J\n"


def test_an_age_is_told_from_a_time_or_not_at_all() -> None:
    assert age(datetime.now(UTC) - timedelta(hours=1)) == "About an hour ago"
    assert age(None) == "N/A"


@pytest.mark.parametrize("text", ["", "yesterday"])
def test_a_time_that_is_none(text: str) -> None:
    assert moment(text) is None


def test_a_time_without_a_zone_is_utc() -> None:
    assert moment("2026-01-02T03:04:05") == moment("2026-01-02T04:04:05+01:00")


def test_a_name_that_somebody_typed() -> None:
    assert str(parse_reference("a")) == "docker.io/library/a:latest"
    with pytest.raises(UsageError, match="invalid reference format"):
        parse_reference("a b")
