"""Laws that hold whatever the definition, the store and the order of completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybuild.model.contents import ContentDigest
from pybuild.model.digest import Digest
from pybuild.model.ops import ExecOp, FileOp, LocalSource, MergeOp, ScratchSource, Vertex, walk
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot
from pybuild.model.snapshot import stacked as merge_stacks
from pybuild.solver import keys
from pybuild.solver.messages import Phase, Run
from tests.solver.builders import Desk, copy, image, local, merge, run, scratch
from tests.solver.fakes import FakeRunner, MemoryRecords

LAST = (Phase.CACHED, Phase.COMPLETED)


class PureRunner(FakeRunner):
    """A runner whose results depend on nothing but what an op really reads.

    Steps whose names differ only behind ``#`` write the same bytes, so content keys meet.
    """

    def digest(self, result: Result, selection: Selection) -> ContentDigest:
        if isinstance(result, LocalTree):
            return super().digest(result, selection)
        return ContentDigest(Digest.of_json([list(result.deltas), selection.path]))

    def make(self, vertex: Vertex, inputs: Sequence[Result]) -> Result:
        match vertex.op:
            case LocalSource() | ScratchSource():
                return super().make(vertex, inputs)
            case MergeOp():
                return merge_stacks([i for i in inputs if isinstance(i, Snapshot)])
            case _:
                pass
        content = keys.content_inputs(vertex)
        current: dict[int, dict[Selection, ContentDigest]] = {}
        self.reads[vertex.meta.name] = current
        read: list[Any] = [vertex.meta.name.partition("#")[0]]
        for index, result in enumerate(inputs):
            if index in content:
                found = {s: self.digest(result, s) for s in content[index]}
                read.append([digest.digest for digest in found.values()])
                current[index] = found
            elif isinstance(vertex.op, ExecOp) and isinstance(result, Snapshot):
                read.append(list(result.deltas))
        base = inputs[0] if inputs and isinstance(vertex.op, ExecOp | FileOp) else Snapshot()
        below = base.deltas if isinstance(base, Snapshot) else ()
        return Snapshot((*below, Digest.of_json(read).short))


def evaluate(runner: PureRunner, *targets: Vertex) -> list[Result]:
    """Return the targets, found without any solver."""
    results: dict[Digest, Result] = {}
    for vertex in walk(*targets):
        results[vertex.digest] = runner.make(vertex, [results[i.digest] for i in vertex.inputs])
    return [results[target.digest] for target in targets]


@dataclass
class Definition:
    vertices: list[Vertex]
    targets: list[Vertex]


@st.composite
def definitions(draw: st.DrawFn, *, no_cache: bool = True, size: int = 9) -> Definition:
    vertices = [image("a"), image("b"), local(), scratch()]
    trees = [vertices[0], vertices[1], vertices[3]]
    for number in range(draw(st.integers(1, size))):
        fresh = no_cache and draw(st.integers(0, 9)) == 0
        kind = draw(st.sampled_from(["run", "run", "copy", "copy", "bind", "merge"]))
        name = f"{kind}{draw(st.integers(0, 3))}#{draw(st.integers(0, 2))}"
        base = draw(st.sampled_from(trees))
        other = draw(st.sampled_from([*trees, vertices[2]]))
        path = draw(st.sampled_from(["/x", "/y", "/"]))
        match kind:
            case "run":
                made = run(name, base, no_cache=fresh)
            case "copy":
                made = copy(name, base, other, path, no_cache=fresh)
            case "bind":
                made = run(name, base, other, no_cache=fresh)
            case _:
                made = merge(f"merge{number}", base, draw(st.sampled_from(trees)))
        trees.append(made)
        vertices.append(made)
    targets = draw(st.lists(st.sampled_from(trees[-3:]), min_size=1, max_size=3))
    return Definition(vertices, targets)


files = st.dictionaries(st.sampled_from(["/x", "/y"]), st.sampled_from("12"))


def check_told(desk: Desk, job: str, targets: Sequence[Vertex]) -> None:
    for vertex in walk(*targets):
        phases = [p for j, v, p in desk.told_vertices if j == job and v == vertex.digest]
        assert sum(p in LAST for p in phases) == 1, (vertex.meta.name, phases)
        assert phases[0] is Phase.ADDED
        assert phases[-1] in LAST
        if phases[-1] is Phase.COMPLETED:
            assert Phase.STARTED in phases


class CheckedDesk(Desk):
    """Looks at each run: it must be needed."""

    def perform(self, what: Any) -> None:
        if isinstance(what, Run) and not isinstance(what.vertex.op, LocalSource):
            node = self.state.tickets[what.ticket][0]
            assert node.key is not None
            assert node.fresh or self.records.load(node.key) is None, "it is stored"
        super().perform(what)


def desk_for(data: st.DataObject, records: MemoryRecords, content: dict[str, str]) -> CheckedDesk:
    return CheckedDesk(
        records, PureRunner(files=content), lambda count: data.draw(st.integers(0, count - 1))
    )


common = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@common
@given(st.data())
def test_any_order_gives_what_evaluation_gives(data: st.DataObject) -> None:
    """Caching is never seen in the results, for builds one after the other on one store."""
    records = MemoryRecords()
    for _ in range(data.draw(st.integers(1, 3))):
        definition = data.draw(definitions())
        content = data.draw(files)
        for key in sorted(records.records):
            if data.draw(st.integers(0, 7)) == 0:
                del records.records[key]
        desk = desk_for(data, records, content)
        solution = desk.solve(*definition.targets)
        expected = evaluate(PureRunner(files=content), *definition.targets)
        assert [s.result for s in solution.targets] == expected
        assert len(desk.ran) == len({(n, d) for n, d in desk.ran_vertices})
        check_told(desk, "job", definition.targets)
        assert not desk.state.nodes
        assert not desk.state.tickets
        assert not desk.state.leaders
        assert not desk.state.by_key


@pytest.mark.slow
@common
@given(st.data())
def test_a_second_build_of_the_same_runs_nothing(data: st.DataObject) -> None:
    definition = data.draw(definitions(no_cache=False))
    content = data.draw(files)
    records = MemoryRecords()
    desk_for(data, records, content).solve(*definition.targets)
    second = desk_for(data, records, content)
    second.solve(*definition.targets)
    assert set(second.ran) <= {"local"}
    check_told(second, "job", definition.targets)


@pytest.mark.slow
@common
@given(st.data())
def test_files_that_change_meanwhile_leave_no_key_of_bytes_that_were_not_read(
    data: st.DataObject,
) -> None:
    """Whatever each step has read, what is stored under a key is what that key's bytes make."""
    definition = data.draw(definitions(no_cache=False))
    records = MemoryRecords()
    content = data.draw(files)
    desk = desk_for(data, records, content)
    jobs = [f"job{n}" for n in range(data.draw(st.integers(1, 3)))]
    for job in jobs:
        desk.add(*definition.targets, job=job)
        for _ in range(data.draw(st.integers(0, 6))):
            if desk.open:
                desk.step()
    while desk.open:
        if data.draw(st.integers(0, 2)) == 0:
            content.clear()
            content |= data.draw(files)
        desk.step()
    assert set(desk.solutions) == set(jobs)
    for job in jobs:
        check_told(desk, job, definition.targets)
    assert not desk.state.nodes
    assert not desk.state.tickets
    assert not desk.state.leaders
    assert not desk.state.by_key
    for still in ({}, {"/x": "1"}, {"/y": "2"}, {"/x": "2", "/y": "1"}):
        again = desk_for(data, records, dict(still))
        expected = evaluate(PureRunner(files=dict(still)), *definition.targets)
        assert [s.result for s in again.solve(*definition.targets).targets] == expected


@pytest.mark.slow
@common
@given(st.data())
def test_jobs_that_come_at_any_time_share_all_work(data: st.DataObject) -> None:
    """[KEY-14] Over all jobs, nothing of equal key runs twice."""
    definition = data.draw(definitions(no_cache=False))
    content = data.draw(files)
    desk = desk_for(data, MemoryRecords(), content)
    jobs = [f"job{n}" for n in range(data.draw(st.integers(2, 4)))]
    wanted: dict[str, list[Vertex]] = {}
    for job in jobs:
        trees = [v for v in definition.vertices if not isinstance(v.op, LocalSource)]
        wanted[job] = data.draw(st.lists(st.sampled_from(trees), min_size=1, max_size=2))
        desk.add(*wanted[job], job=job)
        for _ in range(data.draw(st.integers(0, 12))):
            if desk.open:
                desk.step()
    desk.work()
    runner = PureRunner(files=content)
    for job in jobs:
        assert [s.result for s in desk.solutions[job].targets] == evaluate(runner, *wanted[job])
        check_told(desk, job, wanted[job])
    assert len(desk.run_keys) == len(set(desk.run_keys))
    assert not desk.state.nodes


@pytest.mark.slow
@common
@given(st.data())
def test_cancelled_and_failing_jobs_never_harm_the_others(data: st.DataObject) -> None:
    definition = data.draw(definitions())
    content = data.draw(files)
    desk = desk_for(data, MemoryRecords(), content)
    kept: list[str] = []
    doomed: list[str] = []
    for number in range(data.draw(st.integers(2, 4))):
        job = f"job{number}"
        desk.add(*definition.targets, job=job)
        (doomed if data.draw(st.booleans()) else kept).append(job)
        for _ in range(data.draw(st.integers(0, 15))):
            if desk.open:
                desk.step()
    for job in doomed:
        for _ in range(data.draw(st.integers(0, 8))):
            if desk.open:
                desk.step()
        desk.cancel(job)
    desk.work()
    for job in kept:
        expected = evaluate(PureRunner(files=content), *definition.targets)
        assert [s.result for s in desk.solutions[job].targets] == expected
        check_told(desk, job, definition.targets)
    assert not desk.state.nodes
    assert not desk.state.tickets
    assert not desk.state.leaders


@pytest.mark.slow
@common
@given(st.data())
def test_failures_end_exactly_the_jobs_that_need_them(data: st.DataObject) -> None:
    definition = data.draw(definitions())
    desk = desk_for(data, MemoryRecords(), data.draw(files))
    steps = [v.meta.name for v in definition.vertices if isinstance(v.op, ExecOp | FileOp)]
    if steps:
        desk.runner.fail = set(data.draw(st.lists(st.sampled_from(steps), max_size=2)))
    jobs: dict[str, list[Vertex]] = {}
    for number in range(data.draw(st.integers(1, 3))):
        trees = [v for v in definition.vertices if not isinstance(v.op, LocalSource)]
        jobs[f"job{number}"] = data.draw(st.lists(st.sampled_from(trees), min_size=1, max_size=2))
        desk.add(*jobs[f"job{number}"], job=f"job{number}")
        for _ in range(data.draw(st.integers(0, 12))):
            if desk.open:
                desk.step()
    desk.work()
    for job, targets in jobs.items():
        names = {v.meta.name for v in walk(*targets)}
        if names & desk.runner.fail:
            assert job in desk.failures or job in desk.solutions
            if job in desk.failures:
                assert desk.failures[job][0] in desk.runner.fail
        else:
            assert job in desk.solutions, "a failure of others' ended it"
    assert not desk.state.nodes
    assert not desk.state.tickets
