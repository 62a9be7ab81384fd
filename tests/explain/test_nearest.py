"""The result that a miss is compared with: near by name, then by what it is made of."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.explain.nearest import Neighbours, StepName, like, likeness
from pybuild.model.named import KnownInputs

MINE = StepName("RUN make", "s", 2, 5)


@pytest.mark.parametrize(
    ("other", "same_parent", "distance"),
    [
        (StepName("RUN make", "s", 4, 9), False, 0.0),
        (StepName("RUN make", "t", 2, 5), False, 0.5),
        (StepName("RUN other", "s", 2, 5), False, 1.0),
        (StepName("RUN makes", "s", 2, 6), False, 2.0),
        (StepName("RUN zzzzzzzzzzzz", "s", 2, 6), False, None),
        (StepName("RUN makes", "s", 3, 5), True, 2.0),
        (StepName("RUN makes", "s", 3, 5), False, None),
        (StepName("RUN makes", "t", 2, 5), False, None),
        (StepName("RUN makes", "t", 2, 5), True, 2.0),
        (StepName("COPY make", "s", 2, 5), True, None),
        (StepName("RUN taken", "s", 2, 5), True, None),
    ],
)
def test_names_are_near_by_text_then_place_then_parent(
    other: StepName, same_parent: bool, distance: float | None
) -> None:
    taken = {"RUN make", "RUN taken"}
    assert likeness(MINE, other, taken, same_parent=same_parent) == distance


def test_texts_are_versions_of_each_other_from_six_tenths_on() -> None:
    mine = StepName("RUN abcdef", "", 1, 2)
    assert likeness(mine, StepName("RUN abuvwx", "", 2, 2), (), same_parent=True) == 2.0
    assert likeness(mine, StepName("RUN auvwxy", "", 2, 2), (), same_parent=True) is None


def test_names_that_may_be_near_have_a_text_or_a_place_in_common() -> None:
    is_like = like(["[s 2/5] RUN make", "[internal] load"])
    assert is_like("[t 9/9] RUN make")
    assert is_like("[s 2/7] RUN other")
    assert is_like("[internal] load")
    for name in ("[s 2/7] COPY a b", "[t 2/5] RUN other", "[s 3/5] RUN other", "[internal] other"):
        assert not is_like(name)


def known(
    number: int, name: str = "[2/5] RUN make", first: float = 0.0, **parts: Any
) -> KnownInputs:
    return KnownInputs(key=f"k{number}", name=name, parts=parts, first=first)


def execs(*env: str, **fields: Any) -> dict[str, Any]:
    return {"type": "ExecOp", "args": ["make"], "env": list(env), **fields}


def nearest(*candidates: KnownInputs, name: str = "[2/5] RUN make", **parts: Any) -> str | None:
    found = Neighbours(candidates, [name]).nearest(name, parts or {"op": execs()})
    return None if found is None else found.key


def test_a_key_is_found_as_it_is_and_of_several_the_first() -> None:
    one, other = known(1), known(1, first=9.0)
    neighbours = Neighbours([one, other], [])
    assert neighbours.same("k1") is one
    assert neighbours.same("k2") is None
    assert neighbours.same(None) is None


PLATFORM = {"os": "linux", "arch": "arm64"}


@pytest.mark.parametrize(
    ("parts", "cost"),
    [
        ({"op": execs(args=["other"])}, 4),
        ({"op": execs(platform=PLATFORM)}, 3),
        ({"op": execs(), "inputs": [{"key": "2"}]}, 2),
        ({"op": execs(cwd="/src")}, 1),
    ],
)
def test_a_difference_weighs_as_much_as_so_many_variables(parts: dict[str, Any], cost: int) -> None:
    def variables(count: int) -> dict[str, Any]:
        env = [f"V{n}=1" for n in range(count)]
        return {
            "op": execs(*env, platform={"os": "linux", "arch": "amd64"}),
            "inputs": [{"key": "1"}],
        }

    dear = {**variables(0), **parts}
    dear["op"] = {**variables(0)["op"], **parts["op"]}
    here = known(1, first=9.0, **dear)
    assert nearest(here, known(2, **variables(cost - 1)), **variables(0)) == "k2"
    assert nearest(here, known(2, **variables(cost + 1)), **variables(0)) == "k1"


def test_another_place_weighs_less_than_another_stage_and_both_less_than_a_variable() -> None:
    def at(number: int, place: str, *env: str) -> KnownInputs:
        return known(number, f"[{place}] RUN make", float(9 - number), op=execs(*env))

    assert nearest(at(1, "t 2/5"), at(2, "3/5")) == "k2"
    assert nearest(at(1, "2/5", "A=1"), at(2, "t 3/5")) == "k2"
    assert nearest(at(1, "3/5"), at(2, "2/5")) == "k2"


def test_an_equal_instruction_weighs_two_variables_more_than_an_edited_one() -> None:
    edited = known(1, "[2/5] RUN made", 9.0, op=execs())
    assert nearest(edited, known(2, op=execs("A=1"))) == "k2"
    assert nearest(edited, known(2, op=execs("A=1", "B=1", "C=1"))) == "k1"


def test_only_ops_of_one_kind_are_near() -> None:
    assert nearest(known(1, op={"type": "FileOp"})) is None


def test_an_edited_step_that_moved_is_found_by_its_parent() -> None:
    moved = known(1, "[4/9] RUN makes", op=execs(), inputs=[{"key": "1"}])
    assert nearest(moved, op=execs(), inputs=[{"key": "1"}]) == "k1"
    assert nearest(moved, op=execs(), inputs=[{"key": "2"}]) is None
