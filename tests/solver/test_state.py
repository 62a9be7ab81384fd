"""The state machine: events in, instructions out, on a desk that answers at once."""

from __future__ import annotations

import pytest

from pybuild.model.ops import DiffOp, Vertex
from pybuild.model.snapshot import Snapshot
from pybuild.solver.messages import Cancel, Identify, Phase, Probe, Run
from tests.solver.builders import Desk, copy, image, local, merge, run, scratch, vertex
from tests.solver.desks import again, names, pending_run, until_running
from tests.solver.fakes import FakeRunner


def test_a_chain_runs_from_the_source_up_and_is_stored() -> None:
    desk = Desk()
    top = run("b", run("a", image()))
    solution = desk.solve(top)
    assert desk.ran == ["base", "a", "b"]
    assert len(desk.records.records) == 3
    result = solution.of(top).result
    assert isinstance(result, Snapshot)
    assert len(result.deltas) == 3
    assert not solution.of(top).cached


def test_only_the_target_is_looked_up_when_it_hits() -> None:
    first = Desk()
    top = run("b", run("a", image()))
    first.solve(top)
    second = again(first, top)
    assert second.ran == []
    assert [type(i) for i in second.log if isinstance(i, Probe | Identify | Run)] == [Probe]
    assert second.solutions["job"].get(top.inputs[0]) is None


def test_every_step_prints_cached_exactly_once_inputs_first() -> None:
    first = Desk()
    top = run("b", run("a", image()))
    first.solve(top)
    second = again(first, top)
    cached = [name for _, name, phase in second.told if phase is Phase.CACHED]
    assert cached == ["base", "a", "b"]


def test_only_what_is_above_the_deepest_hit_runs() -> None:
    first = Desk()
    a = run("a", image())
    first.solve(run("b", a))
    second = again(first, run("c", run("changed", a)))
    assert second.ran == ["changed", "c"]
    assert second.phases("a") == ["added", "cached"]
    assert second.phases("base") == ["added", "cached"]
    assert second.phases("c") == ["added", "started", "completed"]


def test_no_cache_runs_again_and_stores_the_new_result() -> None:
    """[KEY-11] The base image is still looked up."""
    first = Desk()
    first.solve(run("b", run("a", image())))
    fresh = run("b", run("a", image(), no_cache=True), no_cache=True)
    second = again(first, fresh)
    assert second.ran == ["a", "b"]
    third = again(second, run("b", run("a", image())))
    assert third.ran == []
    assert third.solutions["job"].targets[0].result == second.solutions["job"].targets[0].result


def test_a_step_on_a_forced_step_runs_again_but_a_copy_of_equal_bytes_does_not() -> None:
    """[KEY-13]"""
    runner = FakeRunner(content={"a": "same"})

    def definition(no_cache: bool) -> tuple[Vertex, Vertex]:
        a = run("a", image(), no_cache=no_cache)
        return run("on-a", a), run("on-copy", copy("copy", image("other"), a))

    first = Desk(runner=runner)
    first.solve(*definition(False))
    second = again(first, *definition(True))
    assert sorted(second.ran) == ["a", "on-a"]


def test_a_forced_step_with_other_bytes_renews_the_alias() -> None:
    first = Desk(runner=FakeRunner(content={"a": "one"}))
    first.solve(copy("copy", image(), run("a", image())))
    second = Desk(first.records, FakeRunner(content={"a": "two"}))
    second.solve(copy("copy", image(), run("a", image(), no_cache=True)))
    assert second.ran == ["a", "copy"]
    third = again(second, copy("copy", image(), run("a", image())))
    assert third.ran == []
    assert third.solutions["job"].targets[0].result == second.solutions["job"].targets[0].result


def test_an_alias_that_is_answered_last_holds_nothing_up() -> None:
    """Its inputs are there by then, so that nothing else will wake the step."""
    desk = Desk()
    base, a = image(), run("a", image("other"))
    top = copy("copy", base, a)
    desk.add(base, a, top)

    def is_alias(ticket: int) -> bool:
        what = desk.open[ticket]
        return isinstance(what, Probe) and what.alias

    while others := [ticket for ticket in sorted(desk.open) if not is_alias(ticket)]:
        desk.step(others[0])
    (alias,) = desk.open
    desk.step(alias)
    desk.work()
    assert desk.ran[-1] == "copy"
    assert desk.solutions["job"].of(top).result is not None


def test_a_changed_stage_with_equal_bytes_keeps_the_copy() -> None:
    first = Desk(runner=FakeRunner(content={"a": "bytes", "a2": "bytes"}))
    first.solve(run("top", copy("copy", image(), run("a", image()))))
    second = again(first, run("top", copy("copy", image(), run("a2", image()))))
    assert names(second) == ["a2"]
    third = again(second, run("top", copy("copy", image(), run("a2", image()))))
    assert third.ran == []
    digests = [i for i in third.log if type(i).__name__ == "DigestContent"]
    assert digests == [], "the alias of the second build answers without the files"


def test_touched_file_that_nobody_copies_changes_nothing() -> None:
    files = {"/src/a.c": "1", "/README": "x"}
    top = run("make", copy("sources", image(), local(), "/src"))
    first = Desk(runner=FakeRunner(files=files))
    first.solve(top)
    assert names(first) == ["base", "sources", "make"]
    first.runner.files["/README"] = "y"
    second = again(first, top)
    assert names(second) == []
    assert second.phases("local") == ["added", "started", "completed"]
    second.runner.files["/src/a.c"] = "2"
    third = again(second, top)
    assert names(third) == ["sources", "make"]


def test_a_record_names_what_its_key_was_made_of() -> None:
    desk = Desk(runner=FakeRunner(files={"/src/a.c": "1"}))
    top = copy("sources", image(), local(), "/src")
    desk.solve(top)
    key = desk.solutions["job"].of(top).key
    assert key is not None
    named = desk.records.named_inputs[key]
    assert named.parts["op"]["actions"][0]["dest"] == "/sources"
    base, local_source = named.parts["inputs"]
    assert (base["name"], base["type"], local_source["name"]) == ("base", "ImageSource", "local")
    assert base["identity"] != base["key"]
    listing = named.listings[local_source["content"][0]]
    assert [path for path, _ in listing] == ["/src/a.c"]


def test_a_record_whose_files_are_gone_is_a_miss() -> None:
    first = Desk(runner=FakeRunner(content={"a": "bytes"}))
    top = copy("copy", image(), run("a", image()))
    first.solve(top)
    result = first.solutions["job"].of(top).result
    assert isinstance(result, Snapshot)
    first.records.lost.add(result.deltas[-1])
    second = again(first, top)
    assert second.ran == ["copy"]


def test_independent_copies_in_a_chain_make_their_stages_side_by_side() -> None:
    """[FROM-12] Each copy waits for the one before it; the stages must not."""
    stages = [run(f"s{n}", image()) for n in range(16)]
    top = image("final")
    for n, stage in enumerate(stages):
        top = copy(f"copy{n}", top, stage)
    desk = Desk()
    desk.add(top)
    until_running(desk, *(f"s{n}" for n in range(16)))
    desk.work()
    assert sorted(set(desk.ran)) == sorted(desk.ran)


def test_a_long_base_step_runs_beside_the_stage_that_is_copied_onto_it() -> None:
    stage = run("stage", image())
    top = copy("copy", run("apt", image("debian")), stage)
    desk = Desk()
    desk.add(top)
    until_running(desk, "apt", "stage")
    assert pending_run(desk, "apt")
    assert pending_run(desk, "stage")


def test_a_guess_that_was_not_needed_is_dropped_and_shown_as_cached() -> None:
    runner = FakeRunner(content={"stage": "bytes", "stage2": "bytes"})
    apt = run("apt", image("debian"))
    first = Desk(runner=runner)
    first.solve(copy("copy", apt, run("stage", image())))
    key = first.solutions["job"].of(apt).key
    assert key is not None
    del first.records.records[key]
    second = Desk(first.records, FakeRunner(content=runner.content))
    top = copy("copy", apt, run("stage2", image()))
    second.add(top)
    while second.open:
        tickets = [
            t
            for t, i in second.open.items()
            if not (isinstance(i, Run) and i.vertex == apt and t in second.begun)
        ]
        if not tickets:
            break
        second.step(tickets[0])
    assert second.solutions["job"].targets[0].cached
    assert any(isinstance(i, Cancel) for i in second.log)
    assert second.phases("apt") == ["added", "started", "cached"]
    assert second.state.nodes == {}


def test_merge_and_scratch_need_no_run() -> None:
    a = copy("a", scratch(), local(), "/a")
    top = merge("merge", image(), a, scratch())
    desk = Desk(runner=FakeRunner(files={"/a": "1"}))
    solution = desk.solve(top)
    base, upper = solution.of(top.inputs[0]).result, solution.of(a).result
    assert isinstance(base, Snapshot)
    assert isinstance(upper, Snapshot)
    assert solution.of(top).result == Snapshot(base.deltas + upper.deltas)
    assert "merge" not in desk.ran
    assert "scratch" not in desk.ran
    assert desk.phases("merge") == ["added", "started", "completed"]
    second = again(desk, top)
    assert second.phases("merge") == ["added", "cached"]
    assert second.solutions["job"].of(top).result == solution.of(top).result


def test_difference_of_a_tree_and_itself_needs_no_run() -> None:
    a = run("a", image())
    desk = Desk()
    top = vertex("diff", DiffOp(), a, a)
    assert desk.solve(top).of(top).result == Snapshot()
    assert desk.ran == ["base", "a"]


@pytest.mark.parametrize("upper", [run("b", image()), run("b", run("a", image()))])
def test_difference_of_two_trees_runs(upper: Vertex) -> None:
    """Also of one that is built on the other: what it only touched is none."""
    top = vertex("diff", DiffOp(), run("a", image()), upper)
    desk = Desk()
    desk.solve(top)
    assert "diff" in desk.ran
