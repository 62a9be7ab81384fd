"""The account of a build: what was cached, what ran for how long, and what may not run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.explain.account import Account, MissRefused
from pybuild.explain.cause import Surroundings
from pybuild.explain.report import CacheMountOrigin, Reason, Status, StepReport
from pybuild.model.digest import Digest
from pybuild.model.events import (
    PULLING,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexMount,
    VertexProgress,
    VertexStarted,
    VertexUsage,
)
from pybuild.model.events import LogStream as Stream
from pybuild.model.named import KnownInputs, NamedInputs
from pybuild.model.ops import Vertex
from pybuild.solver.messages import Run
from tests.solver.builders import copy, image, local, run

KEY, OTHER = Digest.of(b"key"), Digest.of(b"other")
STARTED = 100.0
BASE = image("[1/2] FROM base")
MAKE = run("[2/2] RUN make", BASE)


def missed(vertex: Vertex, *, key: Digest | None = KEY, fresh: bool = False) -> Run:
    return Run(1, vertex, (), "job", key, NamedInputs(), fresh)


def steps(
    account: Account,
    *targets: Vertex,
    known: tuple[KnownInputs, ...] = (),
    skip: set[Digest] | None = None,
) -> tuple[StepReport, ...]:
    around = Surroundings(trees={}, files={}, started=STARTED)
    return account.steps(targets, skip or set(), known, lambda _: None, around)


def last(account: Account, known: tuple[KnownInputs, ...] = ()) -> StepReport:
    return steps(account, MAKE, known=known)[-1]


def test_steps_are_numbered_in_the_order_of_the_definition_inputs_first() -> None:
    account = Account()
    account.watch(VertexCached(vertex=BASE.digest, time=1.0))
    assert steps(account, MAKE) == (
        StepReport(number=1, name="[1/2] FROM base", status=Status.CACHED),
        StepReport(number=2, name="[2/2] RUN make", status=Status.UNREACHED),
    )


def test_a_step_has_what_its_processes_took() -> None:
    account = Account()
    account.watch(VertexStarted(vertex=MAKE.digest, time=1.0))
    account.watch(VertexUsage(vertex=MAKE.digest, cpu_seconds=2.5, peak_memory_bytes=4096))
    account.watch(VertexCompleted(vertex=MAKE.digest, time=3.0))
    step = last(account)
    assert (step.seconds, step.cpu_seconds, step.peak_memory_bytes) == (2.0, 2.5, 4096)


def test_a_step_has_the_seconds_that_it_waited_and_pulled() -> None:
    account = Account()
    for id, begin, end in (
        ("waiting for a slot", 1.0, 3.5),
        (PULLING, 3.5, 4.0),
        (PULLING, 5.0, 6.0),
    ):
        for time in (begin, end):
            event = VertexProgress(
                vertex=MAKE.digest, id=id, current=0, done=time == end, unit="", time=time
            )
            account.watch(event)
    account.watch(replace(event, id="another"))  # whose beginning was not heard
    account.watch(replace(event, id="layer", unit="bytes"))
    step = last(account)
    assert (step.waited_seconds, step.pulled_seconds) == (2.5, 1.5)


def test_a_step_has_the_origin_of_its_cache_mounts() -> None:
    account = Account()
    account.watch(VertexMount(vertex=MAKE.digest, id="go", origin="new and empty"))
    assert last(account).mounts == (CacheMountOrigin(id="go", origin="new and empty"),)


def test_directories_nameless_vertices_and_those_reported_before_are_no_steps() -> None:
    nameless = run("", BASE)
    top = copy("COPY a b", nameless, local())
    assert [(one.number, one.name) for one in steps(Account(), top, skip={BASE.digest})] == [
        (1, "COPY a b")
    ]


@pytest.mark.parametrize(
    ("started", "ended", "seconds"),
    [(10.0, 12.3456, 2.346), (10.0, 9.0, 0.0), (None, 12.0, 0.0)],
)
def test_a_step_takes_from_its_start_to_its_end(
    started: float | None, ended: float, seconds: float
) -> None:
    account = Account()
    if started is not None:
        account.watch(VertexStarted(vertex=MAKE.digest, time=started))
    account.watch(VertexLog(vertex=MAKE.digest, time=11.0, stream=Stream.STDOUT, data=b"x"))
    account.watch(VertexCompleted(vertex=MAKE.digest, time=ended))
    assert (last(account).status, last(account).seconds) == (Status.RAN, seconds)


def test_who_is_cancelled_has_not_failed() -> None:
    account = Account()
    account.watch(VertexStarted(vertex=MAKE.digest, time=1.0))
    account.watch(VertexFailed(vertex=MAKE.digest, time=3.0, error="x"))
    assert (last(account).status, last(account).seconds) == (Status.FAILED, 2.0)
    account.watch(VertexFailed(vertex=MAKE.digest, time=3.0, error="x", cancelled=True))
    assert last(account).status is Status.UNREACHED


def test_a_miss_is_noted_and_goes_on_unless_it_is_refused() -> None:
    account = Account()
    assert (account.has_misses, account.is_puzzling, account.missed_names) == (False, False, set())
    account.missed(MAKE, missed(MAKE, fresh=True))
    assert (account.has_misses, account.is_puzzling) == (True, False)
    account.missed(BASE, missed(BASE))
    assert account.is_puzzling
    assert account.missed_names == {BASE.meta.name, MAKE.meta.name}


@pytest.mark.parametrize("vertex", [MAKE, copy("COPY a b", BASE, BASE)])
def test_steps_are_refused_where_none_may_run(vertex: Vertex) -> None:
    account = Account(refuse=True)
    with pytest.raises(MissRefused, match="is not cached") as caught:
        account.missed(vertex, missed(vertex))
    assert caught.value.message == f'"{vertex.meta.name}" is not cached'
    account.watch(VertexFailed(vertex=vertex.digest, time=3.0, error="x"))
    assert steps(account, vertex)[-1].status is Status.MISSED


def test_a_base_image_may_be_pulled_where_no_step_may_run() -> None:
    account = Account(refuse=True)
    account.missed(BASE, missed(BASE))
    assert steps(account, BASE)[0].status is Status.UNREACHED


def test_a_step_says_its_key_and_why_it_ran() -> None:
    account = Account()
    assert (last(account).key, last(account).miss) == ("", None)
    account.missed(MAKE, missed(MAKE, key=None, fresh=True))
    account.missed(MAKE, missed(MAKE))
    step = last(account)
    assert step.miss is not None
    assert (step.key, step.miss.reason) == ("", Reason.IGNORED)


def test_the_first_miss_of_a_step_counts() -> None:
    account = Account()
    account.missed(MAKE, missed(MAKE, key=OTHER))
    account.missed(MAKE, missed(MAKE, key=None, fresh=True))
    step = last(account)
    assert step.miss is not None
    assert (step.key, step.miss.reason) == (OTHER, Reason.NEW)


@pytest.mark.parametrize(
    ("key", "first", "place", "reason"),
    [
        (KEY, STARTED - 1, "", Reason.EVICTED),
        (KEY, STARTED, "", Reason.NEW),  # by this very build
        (KEY, STARTED + 1, "", Reason.NEW),
        (KEY, STARTED + 1, "cache:1", Reason.EVICTED),
        (OTHER, STARTED + 1, "", Reason.UNEXPLAINED),
    ],
)
def test_what_this_build_has_made_explains_none_of_its_misses(
    key: Digest, first: float, place: str, reason: Reason
) -> None:
    account = Account()
    account.missed(MAKE, missed(MAKE))
    known = KnownInputs(key=key, name=MAKE.meta.name, parts={}, place=place, first=first)
    step = last(account, (known,))
    assert step.miss is not None
    assert (step.miss.reason, step.miss.place) == (reason, place)
