"""Steps of ours are shown as the vertices of a build are [UI-2]."""

from __future__ import annotations

import asyncio

import pytest

from pybuild.engine.progress import InternalStep, internal_step, named_only
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.events import (
    BuildWarning,
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from tests.clocks import FakeClock

VERTEX = Digest.of(b"internal:load")


def shown(error: BaseException | None = None) -> list[Event]:
    """The events of a step that says a word, and then ends so."""
    events: list[Event] = []
    clock = FakeClock(5.0)

    async def work() -> None:
        async with internal_step("load", events.append, clock) as step:
            clock.advance(1)
            step.say("a word")
            clock.advance(1)
            if error is not None:
                raise error

    if error is None:
        asyncio.run(work())
    else:
        with pytest.raises(type(error)):
            asyncio.run(work())
    return events


def test_a_step_begins_speaks_and_ends() -> None:
    assert shown() == [
        VertexAdded(vertex=VERTEX, name="load"),
        VertexStarted(vertex=VERTEX, time=5.0),
        VertexLog(vertex=VERTEX, time=6.0, stream=LogStream.STDOUT, data=b"a word\n"),
        VertexCompleted(vertex=VERTEX, time=7.0),
    ]


@pytest.mark.parametrize(
    ("error", "text", "cancelled"),
    [
        (UserError("it is wrong", hints=["mend it"]), "it is wrong", False),
        (ValueError("no number"), "no number", False),
        (ExceptionGroup("several", [ValueError("a"), UserError("ours")]), "ours", False),
        (asyncio.CancelledError(), "canceled", True),
    ],
)
def test_a_step_that_fails_says_why_and_lets_the_error_pass(
    error: BaseException, text: str, cancelled: bool
) -> None:
    *_, last = shown(error)
    assert last == VertexFailed(vertex=VERTEX, time=7.0, error=text, cancelled=cancelled)


@pytest.mark.parametrize(
    ("current", "total", "done", "shows_done"),
    [
        (0, 0, False, False),
        (0, 0, True, True),
        (5, 0, False, False),
        (9, 10, False, False),
        (10, 10, False, True),
        (11, 10, False, True),
        (1, 10, True, True),
    ],
)
def test_a_transfer_is_done_when_it_has_its_total_or_says_so(
    current: int, total: int, done: bool, shows_done: bool
) -> None:
    events: list[Event] = []
    InternalStep(VERTEX, events.append, FakeClock(5.0)).transfer("x", current, total, done)
    assert events == [
        VertexProgress(
            vertex=VERTEX, id="x", current=current, total=total, done=shows_done, time=5.0
        )
    ]


def test_what_a_step_is_at_stays_open_where_it_fails() -> None:
    events: list[Event] = []
    step = InternalStep(VERTEX, events.append, FakeClock())
    with step.doing("writing"):
        pass
    with pytest.raises(ValueError, match="no"), step.doing("reading"):
        raise ValueError("no")
    assert all(one.current == one.total == 0 for one in events if isinstance(one, VertexProgress))
    shown = [(one.id, one.done) for one in events if isinstance(one, VertexProgress)]
    assert shown == [("writing", False), ("writing", True), ("reading", False)]


def test_vertices_without_a_name_are_shown_to_nobody() -> None:
    events: list[Event] = []
    nameless, named = Digest.of(b"nameless"), Digest.of(b"named")
    warning = BuildWarning(message="x")
    all_events: list[Event] = [
        VertexAdded(vertex=nameless, name=""),
        VertexAdded(vertex=named, name="load"),
        VertexStarted(vertex=nameless, time=1.0),
        VertexStarted(vertex=named, time=1.0),
        warning,
    ]
    pass_on = named_only(events.append)
    for event in all_events:
        pass_on(event)
    assert events == [all_events[1], all_events[3], warning]
