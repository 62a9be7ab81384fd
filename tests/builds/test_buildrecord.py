"""A build of the history is found by what people call it, and its facts are read as they are."""

from __future__ import annotations

import pytest

from pybuild.builds.buildrecord import BuildRecord, BuildStatus, find_record, from_facts
from pybuild.model.errors import UserError


def build(id: str, ref: str = "") -> BuildRecord:
    return BuildRecord(id=id, ref=ref, status=BuildStatus.COMPLETED, at=1.0)


ALL = [build("ab12", ref="theirs"), build("ab"), build("cd34")]


@pytest.mark.parametrize(
    ("text", "place"),
    [("", 0), ("^0", 0), ("^2", 2), ("ab1", 0), ("thei", 0), ("ab", 1), ("c", 2)],
)
def test_a_build_is_found(text: str, place: int) -> None:
    assert find_record(ALL, text) is ALL[place]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", 'build "a" could be any of ab12, ab'),
        ("x", 'no build "x" is known here'),
        ("^3", "there are only 3 builds: none is ^3"),
        ("^", '"^" names no build'),
        ("^x", '"^x" names no build'),
        ("^²", '"^²" names no build'),
        ("^1234567890", '"^1234567890" names no build'),
    ],
)
def test_none_is_found(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        find_record(ALL, text)
    assert caught.value.message == message


def test_without_a_history_there_is_none() -> None:
    with pytest.raises(UserError, match="no build is known here"):
        find_record([], "")


def test_facts_of_a_build_are_read() -> None:
    record = from_facts(
        "id",
        {
            "ref": "r", "context": ".", "status": "error", "at": 5, "seconds": 2, "tags": ["a", "b"],
            "steps": {"total": 3, "cached": 1}, "error": {"message": "m", "step": "s", "log": ["l"]},
        },
    )  # fmt: skip
    assert (record.id, record.ref, record.name) == ("id", "r", ".")
    assert (record.status, record.at, record.seconds) == (BuildStatus.ERROR, 5.0, 2.0)
    assert (record.total, record.completed, record.cached) == (3, 0, 1)
    assert (record.error, record.step, record.log, record.tags) == ("m", "s", ("l",), ("a", "b"))


def test_facts_that_are_not_as_they_should_be_are_left_out() -> None:
    record = from_facts("id", {"ref": None, "at": "x", "error": [], "tags": 5, "status": "?"})
    assert (record.ref, record.at, record.error, record.tags) == ("", 0.0, "", ())
    assert record.status is BuildStatus.ERROR


def test_what_goes_on_has_taken_no_time_yet() -> None:
    assert from_facts("id", {"status": "running", "seconds": 3}).seconds is None
