"""A step is announced as done when the next builder would find it [CCH-10]."""

from __future__ import annotations

from dataclasses import dataclass, field

from pybuild.model.digest import Digest
from pybuild.model.events import Event, VertexCompleted, VertexProgress
from pybuild.model.ops import ScratchSource, Vertex, VertexMeta
from pybuild.remotecache.announcements import Announcements
from pybuild.solver.solution import Known

FIRST, SECOND = Digest.of(b"first"), Digest.of(b"second")


class TurnedClock:
    def now(self) -> float:
        return 5.0


def vertex() -> Vertex:
    return Vertex(op=ScratchSource(), meta=VertexMeta(name="step"))


@dataclass
class Told:
    """The events that came out, and the bytes that have been carried, by key."""

    carried: dict[Digest, int] = field(default_factory=dict[Digest, int])
    events: list[Event] = field(default_factory=list[Event])

    def __post_init__(self) -> None:
        self.held = Announcements(TurnedClock(), self.carried.get)

    def hold(self, of: Vertex) -> None:
        done = VertexCompleted(vertex=of.digest, time=2.0)
        self.held.hold(of, done, self.events.append)

    @property
    def done(self) -> list[Digest]:
        return [event.vertex for event in self.events if isinstance(event, VertexCompleted)]


def test_a_step_is_done_when_it_is_carried_and_the_time_is_its_own() -> None:
    told, step = Told(), vertex()
    known = Known({}, {step.digest: FIRST})
    told.hold(step)
    told.held.sort(told.held.unseen(), [known], {FIRST})
    told.held.settle()
    assert told.done == []
    told.carried[FIRST] = 7
    told.held.settle()
    assert told.events == [
        VertexProgress(vertex=step.digest, id="carrying to the cache", current=0, time=5.0),
        VertexProgress(
            vertex=step.digest,
            id="carrying to the cache",
            current=7,
            total=7,
            done=True,
            time=5.0,
        ),
        VertexCompleted(vertex=step.digest, time=2.0),
    ]


def test_what_is_not_carried_is_announced_at_once() -> None:
    told, step = Told(), vertex()
    told.hold(step)
    told.held.sort(told.held.unseen(), [Known({}, {step.digest: SECOND})], {FIRST})
    assert told.done == [step.digest]
    told.hold(step)
    told.held.sort(told.held.unseen(), [Known()], {FIRST})
    assert told.done == [step.digest] * 2


def test_what_ends_while_somebody_looks_waits_for_the_next_look() -> None:
    told, step = Told(), vertex()
    looked_for = told.held.unseen()
    told.hold(step)
    told.held.sort(looked_for, [Known()], {FIRST})
    assert told.done == []


def test_one_of_several_solves_knows_the_key() -> None:
    told, step = Told(), vertex()
    told.hold(step)
    knowns = [Known(), Known({}, {step.digest: FIRST})]
    told.held.sort(told.held.unseen(), knowns, {FIRST})
    assert told.done == []


def test_at_the_end_all_is_announced() -> None:
    told, step = Told(), vertex()
    told.hold(step)
    told.held.release()
    assert told.done == [step.digest]
    told.held.release()
    assert told.done == [step.digest]
