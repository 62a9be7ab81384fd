"""The history's commands, on builds that somebody keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import pytest

from pybuild.builds.buildrecord import BuildRecord, BuildStatus
from pybuild.commandline.parser import Parsed
from pybuild.commands import history
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexAdded, VertexFailed

if TYPE_CHECKING:
    from pybuild.builds.builder import Builder

A = Digest.of(b"a")
FAILED = VertexFailed(vertex=A, time=2.0, error="it broke")
DONE = BuildRecord(
    id="0d0d", name="a/very/long/name/of/a/context/that/is/cut", status=BuildStatus.COMPLETED, at=1e9,
    seconds=61.0, context="/src", dockerfile="Dockerfile", target="app", args=("V=1",), total=4, completed=4,
    cached=1, images=("sha256:i",), names=("app:1", "app:2"), image_id="sha256:id",
)  # fmt: skip
BROKEN = BuildRecord(
    id="bbbb", name="b", status=BuildStatus.ERROR, at=2e9, seconds=0.0, error="it\x1b broke", step="[1/1] RUN x",
    log=("last", "words"),
)  # fmt: skip
RUNNING = BuildRecord(id="cccc", name="c", status=BuildStatus.RUNNING, at=0.0)


class History:
    """A builder's history."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.records = [BROKEN, DONE, RUNNING]
        self.forgotten: list[str] = []
        self._events = events

    def builds(self) -> list[BuildRecord]:
        return list(self.records)

    def replay(self, record: BuildRecord, emit: Callable[[Event], None]) -> None:
        del record
        for event in self._events:
            emit(event)

    def forget(self, records: Sequence[BuildRecord]) -> None:
        self.forgotten += [record.id for record in records]


class Words:
    """The commands, with what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(
        self,
        command: Callable[[Parsed, Builder], int],
        *positionals: str,
        on: History | None = None,
        **options: str,
    ) -> str:
        parsed = Parsed()
        parsed.positionals = list(positionals)
        parsed.values = {name.replace("_", "-"): [value] for name, value in options.items()}
        assert command(parsed, cast("Builder", on or History())) == 0
        return self._capsys.readouterr().out


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Words:
    return Words(capsys)


def test_what_goes_on_is_listed_first(say: Words) -> None:
    title, *rows = say(history.ls).splitlines()
    assert title.split("  ")[0] == "BUILD ID"
    assert [row.split()[0] for row in rows] == ["cccc", "bbbb", "0d0d"]
    assert "..e/of/a/context/that/is/cut" not in rows[2]
    assert "..long/name/of/a/context/that/is/cut" in rows[2]
    assert "+" in rows[0] and "+" not in rows[1] + rows[2]
    assert DONE.name in say(history.ls, no_trunc="true")
    assert say(history.ls, quiet="true").split() == ["cccc", "bbbb", "0d0d"]
    assert say(history.ls, filter="status=error", quiet="true") == "bbbb\n"


def test_programs_get_exact_numbers(say: Words) -> None:
    running, _, done = map(json.loads, say(history.ls, format="json").splitlines())
    assert (done["ref"], done["name"], done["status"]) == ("0d0d", DONE.name, "Completed")
    assert done["created_at"] == "2001-09-09T01:46:40Z"
    assert done["completed_at"] == "2001-09-09T01:47:41Z"
    assert (done["total_steps"], done["completed_steps"], done["cached_steps"]) == (4, 4, 1)
    assert "completed_at" not in running


def test_a_log_is_shown_as_it_was(say: Words) -> None:
    added = VertexAdded(vertex=A, name="[1/1] RUN x")
    shown = say(history.logs, "bbbb", on=History([added, FAILED]))
    assert "[1/1] RUN x" in shown and "it broke" in shown
    assert shown.count("ERROR") == 1
    rows = say(history.logs, "bbbb", on=History([added]), progress="rawjson").splitlines()
    assert json.loads(rows[0])["vertexes"][0]["name"] == "[1/1] RUN x"
    assert not any("it broke" in row for row in rows)


def test_what_failed_between_steps_is_told_at_the_end(say: Words) -> None:
    assert say(history.logs, "bbbb").endswith("ERROR: it\\x1b broke\n")
    assert "ERROR" not in say(history.logs, "0d0d")
    with pytest.raises(UsageError, match='invalid progress "tty": one of plain, rawjson'):
        say(history.logs, progress="tty")


def test_builds_are_forgotten_but_those_that_go_on(say: Words) -> None:
    builder = History()
    say(history.rm, "0d0d", on=builder)
    assert builder.forgotten == ["0d0d"]
    say(history.rm, on=builder, all="true")
    assert builder.forgotten == ["0d0d", "bbbb", "0d0d"]
    with pytest.raises(UserError, match="build cccc has not ended"):
        say(history.rm, "bbbb", "cccc", on=builder)
    with pytest.raises(UsageError, match="history rm takes builds, or --all"):
        say(history.rm)
    with pytest.raises(UsageError, match="history rm takes builds, or --all"):
        say(history.rm, "bbbb", all="true")


def test_a_record_is_shown_in_words(say: Words) -> None:
    shown = say(history.inspect, "0d0d")
    facts = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
    assert facts["Context"].strip() == "/src"
    assert facts["Target"].strip() == "app"
    assert facts["Build Steps"].strip() == "4/4 (25% cached)"
    assert facts["Names"].strip() == "app:1, app:2"
    assert "Error" not in facts and "Status" not in facts
    assert "BUILD ARG   VALUE\nV           1\n" in shown
    assert shown.endswith("Print build logs: pybuild history logs 0d0d\n")


def test_a_failure_is_shown_with_the_end_of_its_log(say: Words) -> None:
    shown = say(history.inspect, "bbbb")
    assert "Error:       it\\x1b broke\n" in shown
    assert "Build Steps: 0/0 (0% cached)\n" in shown
    assert "Logs:\n> => [1/1] RUN x:\n> last\n> words\n" in shown
    assert "(running)" in say(history.inspect, "cccc")


def test_a_record_is_shown_for_programs(say: Words) -> None:
    document = json.loads(say(history.inspect, "0d0d", format="json"))
    assert (document["Ref"], document["NumTotalSteps"]) == ("0d0d", 4)
    assert say(history.inspect, "0d0d", format="{{.Ref}} {{.Target}}") == "0d0d app\n"
