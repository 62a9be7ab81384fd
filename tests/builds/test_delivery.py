"""Preparations for steps to come: resources beside their inputs are made ready ahead of them."""

from __future__ import annotations

from dataclasses import replace

from pybuild.builds.delivery import foreseeing_steps
from pybuild.model.ops import ExecOp, NetworkMode, StepSettings, Vertex
from pybuild.solver.messages import Run
from tests.solver.builders import copy, image, local, run


def foreseen(target: Vertex, *missed: Vertex) -> list[int]:
    """Return the numbers of steps that were told of while these vertices came to run, one after the other."""
    told: list[int] = []
    heard: list[Vertex] = []
    on_miss = foreseeing_steps([target], told.append, lambda vertex, _: heard.append(vertex))
    for ticket, vertex in enumerate(missed):
        on_miss(vertex, Run(ticket, vertex, (), "job"))
    assert heard == list(missed)
    return told


def test_steps_are_foreseen_when_the_first_of_what_they_are_built_on_runs() -> None:
    base, context = image(), local()
    copied = copy("files", base, context)
    target = run("second", run("first", copied))
    assert foreseen(target) == []
    assert foreseen(target, context, base, copied) == [2]
    assert foreseen(target, base) == [2]


def test_what_runs_above_the_steps_foresees_none() -> None:
    step = run("step", image())
    target = copy("files", step, local())
    assert foreseen(target, local(), target) == []


def test_steps_that_ignore_the_cache_are_foreseen_at_once() -> None:
    target = run("second", run("first", image(), no_cache=True))
    assert foreseen(target) == [2]
    assert foreseen(target, image()) == [2]


def test_steps_that_ask_for_a_network_need_no_other() -> None:
    base = image()
    step = run("step", base, no_cache=True)
    assert isinstance(step.op, ExecOp)
    op = replace(step.op, settings=StepSettings(network=NetworkMode.NONE))
    assert foreseen(Vertex(op, step.inputs, step.meta), base) == []
