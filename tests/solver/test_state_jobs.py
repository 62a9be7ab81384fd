"""The state machine with several jobs: shared steps, cancelled jobs, failures, late answers."""

from __future__ import annotations

import pytest

from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError
from pybuild.model.snapshot import LocalTree
from pybuild.solver import keys
from pybuild.solver.ledger import Ledger
from pybuild.solver.messages import Cancel, JobDone, Phase, Probe
from pybuild.solver.node import Grade, Node, NodeId
from tests.solver.builders import Desk, copy, image, local, merge, run, scratch, vertex
from tests.solver.desks import again, names, pending_run, until_running
from tests.solver.fakes import FakeRunner, MemoryRecords
from tests.solver.invariants import validate


def test_equal_vertices_of_two_jobs_run_once() -> None:
    """[KEY-14]"""
    desk = Desk()
    a = run("a", image())
    desk.add(run("b", a), job="one")
    desk.add(run("c", a), job="two")
    desk.work()
    assert sorted(desk.ran) == ["a", "b", "base", "c"]
    assert desk.phases("a", "one") == desk.phases("a", "two") == ["added", "started", "completed"]


def test_local_sources_of_two_jobs_are_two_but_equal_bytes_run_once() -> None:
    desk = Desk(runner=FakeRunner(files={"/src": "1"}))
    top = run("make", copy("sources", image(), local(), "/src"))
    desk.add(top, job="one")
    desk.add(top, job="two")
    desk.work()
    assert desk.ran.count("local") == 2
    assert names(desk).count("sources") == 1
    assert names(desk).count("make") == 1
    assert desk.phases("make", "two") == ["added", "started", "completed"]
    assert set(desk.solutions) == {"one", "two"}


def test_what_a_job_knows_grows_until_it_ends() -> None:
    desk = Desk()
    top = run("a", image())
    desk.add(top, job="one")
    assert desk.state.known("one")[0] == {}
    assert desk.state.known("other") == ({}, {})
    until_running(desk, "a")
    results, keys_so_far = desk.state.known("one")
    assert set(results) == {top.inputs[0].digest}
    assert set(results) <= set(keys_so_far)
    desk.work()
    assert desk.state.known("one") == ({}, {})


def test_a_local_source_is_its_own_result() -> None:
    desk = Desk()
    top = local()
    assert desk.solve(top).of(top).result == LocalTree("/context")
    assert desk.records.records == {}


def test_cancelling_a_job_leaves_a_step_that_another_waits_for() -> None:
    """[KEY-14]"""
    desk = Desk()
    a = run("a", image())
    desk.add(run("b", a), job="one")
    desk.add(run("c", a), job="two")
    until_running(desk, "a")
    desk.cancel("one")
    assert not any(isinstance(i, Cancel) for i in desk.log)
    desk.work()
    assert desk.ran == ["base", "a", "c"]
    assert "two" in desk.solutions
    assert ("one", "a") in desk.victims


def test_cancelling_the_leader_of_a_key_leaves_the_step_to_the_follower() -> None:
    desk = Desk(runner=FakeRunner(files={"/src": "1"}))
    top = run("make", copy("sources", image(), local(), "/src"))
    desk.add(top, job="one")
    until_running(desk, "make")
    desk.add(top, job="two")
    while len(desk.open) > 1:
        other = next(t for t in desk.open if t != pending_run(desk, "make"))
        desk.step(other)
    desk.cancel("one")
    assert desk.phases("make", "two") == ["added", "started"]
    desk.work()
    assert desk.ran.count("make") == 1
    assert "two" in desk.solutions
    assert desk.state.nodes == {}


def test_cancelling_the_only_job_stops_all_and_forgets_all() -> None:
    desk = Desk()
    desk.add(merge("m", run("a", image()), run("b", image())))
    until_running(desk, "a", "b")
    desk.cancel()
    assert desk.open == {}
    assert desk.state.nodes == {}
    assert desk.state.tickets == {}
    assert sorted(desk.victims) == [("job", "a"), ("job", "b")]


def test_the_first_failure_cancels_the_rest_of_the_job_and_is_the_cause() -> None:
    desk = Desk(runner=FakeRunner(fail=["a"]))
    desk.add(merge("m", run("a", image()), run("b", image())))
    until_running(desk, "a", "b")
    desk.step()
    assert desk.failures["job"][0] == "a"
    assert desk.victims == [("job", "b")]
    assert desk.phases("a") == ["added", "started", "failed"]
    assert desk.open == {}
    assert desk.state.nodes == {}


def test_failures_are_not_stored() -> None:
    """[KEY-15]"""
    desk = Desk(runner=FakeRunner(fail=["a"]))
    desk.add(run("a", image()))
    desk.work()
    assert desk.failures["job"][0] == "a"
    second = again(desk, run("a", image()))
    assert second.ran == ["a"]


def test_a_failure_ends_only_the_jobs_that_wait_for_it() -> None:
    desk = Desk(runner=FakeRunner(fail=["bad"]))
    good, bad = run("good", image()), run("bad", image())
    desk.add(merge("both", good, bad), job="one")
    desk.add(good, job="two")
    until_running(desk, "good", "bad")
    ticket = pending_run(desk, "bad")
    desk.step(ticket)
    assert list(desk.failures) == ["one"]
    desk.work()
    assert "two" in desk.solutions
    assert desk.ran.count("good") == 1


def test_a_follower_fails_with_its_leader() -> None:
    desk = Desk(runner=FakeRunner(files={"/src": "1"}, fail=["make"]))
    top = run("make", copy("sources", image(), local(), "/src"))
    desk.add(top, job="one")
    desk.add(top, job="two")
    desk.work()
    assert set(desk.failures) == {"one", "two"}
    assert desk.ran.count("make") == 1
    assert desk.state.nodes == {}


def test_late_answers_are_ignored() -> None:
    desk = Desk()
    desk.add(run("a", image()))
    until_running(desk, "a")
    ticket, what = next(iter(desk.open.items()))
    desk.cancel()
    assert desk.state.handle(desk.answer(what)) == []
    assert not desk.state.is_needed(ticket)


def test_a_job_that_joins_when_all_is_done_elsewhere_still_ends() -> None:
    desk = Desk()
    a = run("a", image())
    desk.add(merge("m", a, run("b", image())), job="one")
    while "a" not in [n for _, n, p in desk.told if p is Phase.COMPLETED]:
        desk.step()
    desk.add(a, job="two")
    assert any(isinstance(i, JobDone) and i.job == "two" for i in desk.log)
    assert desk.phases("a", "two") == ["added", "cached"]


def test_a_source_without_identity_is_never_stored_nor_what_stands_on_it() -> None:
    from pybuild.model.ops import GitSource

    source = vertex("git", GitSource(remote="r"))
    desk = Desk(runner=FakeRunner(identities={"git": None}))
    desk.solve(run("a", source))
    assert desk.records.records == {}
    assert desk.ran == ["git", "a"]


def test_the_story_of_a_vertex() -> None:
    desk = Desk()
    a = run("a", image())
    desk.add(run("b", a))
    until_running(desk, "a")
    story = desk.state.story(a)
    assert [line.split(" ")[1] for line in story] == ["key", "Probe", "probed", "Run", "began"]


def test_a_job_name_is_used_once() -> None:
    desk = Desk()
    desk.add(run("a", image()))
    with pytest.raises(ValueError, match='job name "job" is in use'):
        desk.add(run("a", image()))


def test_validate_finds_a_broken_invariant() -> None:
    desk = Desk()
    desk.add(run("b", run("a", image())))
    until_running(desk, "a")
    node = next(n for n in desk.state.nodes.values() if n.vertex.meta.name == "b")
    node.results_missing = 0
    with pytest.raises(InternalError, match="counts its inputs' results wrongly; story"):
        validate(desk.state)


def test_a_failing_probe_is_a_miss() -> None:
    from pybuild.solver.messages import Failed

    desk = Desk(MemoryRecords())
    desk.add(run("a", image()))
    ticket = next(iter(desk.open))
    assert isinstance(desk.open.pop(ticket), Probe)
    desk.send(Failed(ticket, OSError("disk")))
    desk.work()
    assert desk.ran == ["base", "a"]


def test_while_a_step_asks_for_its_stored_result_nothing_new_starts_below() -> None:
    """The copy's own record is gone; the step on top of it is stored, so it is not missed."""
    first = Desk(runner=FakeRunner(content={"a": "bytes", "a2": "bytes"}))
    top = run("top", copy("copy", image(), run("a", image())))
    first.solve(top)
    key = first.solutions["job"].of(top.inputs[0]).key
    assert key is not None
    del first.records.records[key]
    second = again(first, run("top", copy("copy", image(), run("a2", image()))))
    assert names(second) == ["a2"]
    assert second.phases("copy") == ["added", "cached"]
    copied = second.targets["job"][0].inputs[0]
    looked_up = [i.alias for i in second.log if isinstance(i, Probe) and i.vertex == copied]
    assert looked_up == [True], "by alias, for the key; not for the result"


def test_a_vertex_that_was_just_looking_takes_the_result_made_meanwhile() -> None:
    desk = Desk(runner=FakeRunner(files={"/src": "1"}))
    one = copy("sources", image(), local("one", "one"), "/src")
    two = copy("sources", image(), local("two", "two"), "/src")
    desk.add(one, image(), job="one")
    desk.add(two, image(), job="two")

    def looking() -> list[int]:
        return [
            t
            for t, i in desk.open.items()
            if isinstance(i, Probe) and i.vertex.meta.name == "sources"
        ]

    def step_past(*held: int) -> None:
        ticket = next(t for t in sorted(desk.open) if t not in held)
        desk.step(ticket)

    while len(looking()) < 2 or set(desk.open) - set(looking()):
        step_past(*looking())
    late = max(looking())
    while late in desk.open:
        step_past(late)
    assert any(isinstance(i, Cancel) and i.ticket == late for i in desk.log)
    desk.work()
    assert desk.ran.count("sources") == 1
    assert set(desk.solutions) == {"one", "two"}


def test_equal_work_runs_once_even_when_nothing_can_be_stored() -> None:
    class Forgetful(MemoryRecords):
        def load(self, key: Digest) -> None:
            return None

    desk = Desk(Forgetful(), FakeRunner(content={"x": "same", "y": "same"}))
    first = copy("copied", image(), run("x", image()))
    second = copy("copied", image(), run("y", first))
    desk.solve(second)
    assert desk.ran.count("copied") == 1


def test_a_failure_below_a_leader_leaves_the_work_to_its_followers() -> None:
    """Two jobs force the same steps; the one that follows must not wait for ever."""
    desk = Desk(runner=FakeRunner(fail=["a"]))
    desk.add(run("b", run("a", image(), no_cache=True)), job="one")
    for _ in range(3):
        desk.step()
    desk.add(run("b", run("a", image(), no_cache=True)), job="two")
    desk.work()
    assert {job: name for job, (name, _) in desk.failures.items()} == {"one": "a", "two": "a"}
    assert desk.ran.count("a") == 2, "the second job fails by its own vertex"


def test_cancelling_a_job_keeps_what_others_wait_for_through_its_leader() -> None:
    """[KEY-14] The second job waits for the first one's last step, and so for the one below."""
    desk = Desk(runner=FakeRunner(files={"/src": "1"}))
    top = run("test", run("make", copy("sources", image(), local(), "/src")))
    desk.add(top, job="one")
    until_running(desk, "make")
    make = pending_run(desk, "make")
    desk.add(top, job="two")
    while set(desk.open) != {make}:
        desk.step(next(t for t in sorted(desk.open) if t != make))
    desk.cancel("one")
    assert make in desk.open
    desk.work()
    assert desk.ran.count("make") == desk.ran.count("test") == 1
    assert "two" in desk.solutions
    assert desk.state.nodes == {}


def test_a_stored_result_is_not_kept_waiting_by_a_job_that_ignores_it() -> None:
    first = Desk()
    first.solve(run("a", image()))
    desk = Desk(first.records)
    desk.add(run("a", image(), no_cache=True), job="one")
    until_running(desk, "a")
    held = pending_run(desk, "a")
    desk.add(run("a", image()), job="two")
    while "two" not in desk.solutions:
        desk.step(next(t for t in desk.open if t != held))
    assert desk.solutions["two"].targets[0].cached


@pytest.mark.slow
@pytest.mark.parametrize("size", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_steps_in_a_chain(size: int) -> None:
    top = image()
    for number in range(size):
        top = run(f"s{number}", top)
    first = Desk(validate=False)
    first.solve(top)
    assert len(first.ran) == size + 1
    second = Desk(first.records, first.runner, validate=False)
    second.solve(top)
    assert second.ran == []
    assert sum(phase is Phase.CACHED for _, _, phase in second.told) == size + 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_stages_side_by_side(size: int) -> None:
    desk = Desk(validate=False)
    desk.solve(merge("all", *(run(f"s{number}", image()) for number in range(size))))
    assert len(desk.ran) == size + 2  # with their base, and the merge


@pytest.mark.slow
@pytest.mark.parametrize("size", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_copies_in_a_chain(size: int) -> None:
    """Every copy is late, as each stage has to run first."""
    top = image()
    for number in range(size):
        top = copy(f"c{number}", top, run(f"s{number}", image()))
    desk = Desk(validate=False)
    desk.solve(top)
    assert len(desk.ran) == 2 * size + 1


@pytest.mark.parametrize("no_cache", [False, True])
def test_copies_in_a_chain_whose_sources_are_known_early_take_a_look_each(
    no_cache: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All keys become known before the first copy has run."""

    def looks(size: int) -> int:
        counted = 0
        desired = Ledger.desired

        def count(ledger: Ledger, node: Node) -> tuple[bool, dict[NodeId, Grade]]:
            nonlocal counted
            counted += 1
            return desired(ledger, node)

        stage, top = run("stage", image(), no_cache=no_cache), scratch()
        for number in range(size):
            top = copy(f"c{number}", top, stage, f"/{number}", no_cache=no_cache)
        with monkeypatch.context() as patched:
            patched.setattr(Ledger, "desired", count)
            Desk(validate=False).solve(top)
        return counted

    assert looks(160) < 3 * looks(80)


def test_a_copy_that_read_other_bytes_is_stored_under_the_key_of_those() -> None:
    """A directory of the client changes between its digest and the copy."""
    definition = copy("copy", image(), local(), "/x")
    top = run("top", definition)
    (selection,) = keys.content_inputs(definition)[1]
    desk = Desk(runner=FakeRunner(files={"/x": "old"}))
    new = FakeRunner(files={"/x": "new"}).digest(LocalTree("/context"), selection)
    desk.runner.reads["copy"] = {1: {selection: new}}
    made = desk.solve(top)
    unchanged = Desk(desk.records, FakeRunner(files={"/x": "new"}))
    assert unchanged.solve(top).of(top).result == made.of(top).result
    assert names(unchanged) == []
    other = Desk(desk.records, FakeRunner(files={"/x": "old"}))
    other.solve(top)
    assert names(other) == ["copy", "top"]
