"""Questions in SQL about the builds of a history."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.builds.buildrecord import BuildStatus
from pybuild.history.database import answer
from pybuild.model.errors import UserError
from tests.history.pastbuilds import RECORD, REPORT

OTHER = replace(
    RECORD,
    id="eeee",
    name="b",
    status=BuildStatus.RUNNING,
    seconds=None,
    args=(),
    images=(),
    tags=(),
)


def ask(question: str) -> list[tuple[object, ...]]:
    return list(answer(question, [RECORD, OTHER], [REPORT, replace(REPORT, id="ffff")]).rows)


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("select id, status, seconds from builds order by at, id", [("0d0d0d0d", "completed", 12.0), ("eeee", "running", None)]),
        ("select name, value from args order by name", [("V", "1"), ("W", "")]),
        ("select digest from images union all select name from tags", [("sha256:i",), ("app:1",)]),
        ("select cpu_seconds, peak_memory_bytes from steps where number = 1", [(11.25, 70_000_000)]),
        ("select steps, completed, cached, warnings from builds limit 1", [(5, 4, 1, 1)]),
        ("select build, number, status, reason from steps", [("0d0d0d0d", 1, "ran", "changed"), ("0d0d0d0d", 2, "cached", None)]),
        ("select name, total(seconds) from steps group by 1 order by 2 desc limit 1",
         [("[slow 1/1] RUN make", 6.0)]),
    ],
)  # fmt: skip
def test_questions(question: str, rows: list[tuple[object, ...]]) -> None:
    assert ask(question) == rows


def test_why_a_step_ran_is_in_words() -> None:
    ((why,),) = ask("select why from steps where number = 1")
    assert str(why).splitlines()[0] == 'because ENV V was "0", is "1"'


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ("select mode", "no such column: mode"),
        ("selekt", "syntax error"),
        ("select 1; select 2", "one statement at a time"),
        ("select \udcff", "no text in UTF-8"),
    ],
)
def test_a_wrong_question_is_answered_by_the_tables(question: str, error: str) -> None:
    with pytest.raises(UserError, match=error):
        ask(question)


def test_no_question_reaches_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with pytest.raises(UserError, match="too many attached"):
        ask(f"attach '{path}' as other")
    with pytest.raises(UserError):
        ask(f"vacuum into '{path}'")
    assert list(tmp_path.iterdir()) == []


def test_changes_are_made_to_a_copy() -> None:
    assert ask("delete from builds") == []
    assert len(ask("select * from builds")) == 2


def test_rows_as_text_and_as_json() -> None:
    question = "select id, seconds, null as none, x'0aff' as bytes, 'a\nb' as lines from builds"
    result = answer(question, [replace(RECORD, seconds=1.25)], [])
    assert result.text() == [
        ["id", "seconds", "none", "bytes", "lines"],
        ["0d0d0d0d", "1.25", "", "0aff", "a; b"],
    ]
    assert json.loads(result.json()) == {
        "id": "0d0d0d0d", "seconds": 1.25, "none": None, "bytes": "0aff", "lines": "a\nb",
    }  # fmt: skip


def test_bytes_that_are_no_text_are_taken() -> None:
    assert answer("select name from builds", [replace(RECORD, name="a\udcff")], []).rows == (
        ("a?",),
    )


def test_a_build_and_a_step_that_come_twice_count_once() -> None:
    twice = replace(REPORT, steps=(*REPORT.steps, REPORT.steps[0]))
    rows = answer(
        "select (select count(*) from builds), (select count(*) from steps)",
        [RECORD, RECORD],
        [twice, twice],
    )
    assert rows.rows == ((1, 2),)


def test_the_builds_of_a_server_are_known_by_their_clients_names() -> None:
    ours = replace(REPORT, id="0a0a0a0a", ref=RECORD.id)
    assert answer("select distinct build from steps", [RECORD], [ours]).rows == ((RECORD.id,),)
