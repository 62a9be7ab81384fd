"""The placer: least bytes to move, then most room; never a worker that cannot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pybuild.cluster.placing import Candidate, Needs, fitting, place
from pybuild.model.platform import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def worker(
    address: str,
    *has: str,
    slots: int = 2,
    busy: int = 0,
    platforms: tuple[Platform, ...] = (AMD64,),
) -> Candidate:
    return Candidate(
        address=address, platforms=platforms, slots=slots, busy=busy, has=frozenset(has)
    )


def chosen(needs: Needs, *workers: Candidate, **sizes: int) -> str:
    found = place(needs, workers, sizes)
    return "" if found is None else found.address


def test_a_step_goes_where_its_inputs_are() -> None:
    needs = Needs(platform=AMD64, deltas=("base", "made"))
    assert chosen(needs, worker("a", "base"), worker("b", "base", "made")) == "b"
    assert chosen(needs, worker("a", "base"), worker("b", "made"), base=100, made=1) == "a"


def test_a_busy_holder_is_passed_over() -> None:
    needs = Needs(platform=AMD64, deltas=("made",))
    assert chosen(needs, worker("a", "made", busy=2), worker("b")) == "b"
    assert chosen(needs, worker("a", "made", busy=2), worker("b", busy=2)) == ""


def test_equal_workers_are_taken_in_turn() -> None:
    needs = Needs(platform=AMD64, deltas=())
    assert chosen(needs, worker("a", busy=1), worker("b")) == "b"
    assert chosen(needs, worker("b"), worker("a")) == "a"


def test_a_step_goes_to_its_platform_and_not_where_it_failed() -> None:
    arm = worker("arm", platforms=(ARM64,))
    assert chosen(Needs(platform=ARM64, deltas=()), worker("a"), arm) == "arm"
    assert chosen(Needs(platform=None, deltas=()), worker("b", busy=1), arm) == "arm"
    needs = Needs(platform=AMD64, deltas=(), avoid=frozenset(("a",)))
    assert chosen(needs, worker("a"), worker("b", busy=1)) == "b"
    assert fitting(needs, [worker("a"), arm]) == []


WORKERS = st.lists(
    st.builds(
        Candidate,
        address=st.text("abcdef", min_size=1, max_size=3),
        platforms=st.sampled_from([(AMD64,), (ARM64,), (AMD64, ARM64)]),
        slots=st.integers(1, 3),
        busy=st.integers(0, 3),
        has=st.frozensets(st.sampled_from("xyz")),
    ),
    unique_by=lambda one: one.address,
    max_size=6,
)


@given(WORKERS, st.randoms())
def test_the_answer_is_one_that_fits_and_does_not_depend_on_the_order(
    workers: list[Candidate], random: object
) -> None:
    needs = Needs(platform=AMD64, deltas=("x", "y"))
    found = place(needs, workers, {})
    free = [one for one in fitting(needs, workers) if one.busy < one.slots]
    assert (found is None) == (not free)
    assert place(needs, list(reversed(workers)), {}) == found
    if found is not None:
        assert found in free
        missing = len({"x", "y"} - set(found.has))
        assert missing == min(len({"x", "y"} - set(one.has)) for one in free)
