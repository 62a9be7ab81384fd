"""The placer: least bytes to move, then most room; never a worker that cannot."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pybuild.cluster.placing import (
    BYTES_PER_S,
    MOUNT_BYTES,
    Candidate,
    Needs,
    Placement,
    fitting,
    home_of,
    place,
    table,
)
from pybuild.model.platform import Platform

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def worker(
    address: str,
    *has: str,
    slots: int = 2,
    busy: int = 0,
    platforms: tuple[Platform, ...] = (AMD64,),
    **more: Any,
) -> Candidate:
    return Candidate(
        address=address, platforms=platforms, slots=slots, busy=busy, has=frozenset(has), **more
    )


def chosen(needs: Needs, *workers: Candidate, **sizes: int) -> str:
    found = place(needs, workers, {name: size << 20 for name, size in sizes.items()}).worker
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


def test_a_native_worker_is_waited_for_before_another_one_emulates() -> None:
    both = worker("both", platforms=(AMD64, ARM64))
    needs = Needs(platform=ARM64, deltas=())
    assert chosen(needs, both) == "both"
    assert chosen(needs, both, worker("arm", platforms=(ARM64,), busy=2)) == ""
    assert chosen(needs, both, worker("arm", platforms=(ARM64,), busy=1)) == "arm"
    i386 = Platform("linux", "386")
    old = worker("old", platforms=(AMD64, i386))
    assert old.is_native(i386)
    assert not both.is_native(ARM64)
    assert not worker("none", platforms=()).is_native(AMD64)


def test_a_holder_is_waited_for_as_long_as_a_move_takes_and_half_the_step() -> None:
    def placed(free_in_s: float | None, seconds: float | None, size: int) -> Placement:
        needs = Needs(platform=AMD64, deltas=("made",), seconds=seconds)
        holder = worker("holder", "made", busy=2, free_in_s=free_in_s)
        return place(needs, [holder, worker("other")], {"made": size})

    second = int(BYTES_PER_S)
    waits = placed(0.5, 10.0, 4 * second)
    assert waits.worker is None
    assert waits.again_s == 0.55
    assert [cost.address for cost in waits.costs] == ["holder", "other"]
    for free_in_s, seconds, size in (
        (4.5, 10.0, 4 * second),  # the move is sooner
        (6.0, 10.0, 40 * second),  # longer than half of the step
        (1.5, 0.1, 4 * second),
        (None, 10.0, 4 * second),  # nobody knows
        (0.5, None, 4 * second),
    ):
        found = placed(free_in_s, seconds, size).worker
        assert found is not None
        assert found.address == "other"


def test_a_cache_mount_has_a_home_and_a_locked_one_is_nowhere_else() -> None:
    workers = [worker(name) for name in "abcd"]
    home = home_of("npm", workers)
    assert home_of("npm", list(reversed(workers))) == home
    assert {home_of(f"id{number}", workers) for number in range(64)} == set("abcd")
    # Who leaves takes only its own mounts along.
    fewer = [one for one in workers if one.address != "a"]
    for number in range(64):
        before = home_of(f"id{number}", workers)
        assert before == "a" or home_of(f"id{number}", fewer) == before
    assert chosen(Needs(platform=AMD64, deltas=(), mounts=("npm",)), *workers) == home
    busy = [worker(one.address, busy=2 * (one.address == home)) for one in workers]
    assert chosen(Needs(platform=AMD64, deltas=(), mounts=("npm",)), *busy) not in ("", home)
    locked = Needs(platform=AMD64, deltas=(), mounts=("npm",), locked=("npm",))
    assert chosen(locked, *workers) == home
    assert chosen(locked, *busy) == ""
    # What has to come is weighed against it.
    needs = Needs(platform=AMD64, deltas=("base",), mounts=("npm",))
    other = next(one.address for one in workers if one.address != home)
    assert (
        chosen(
            needs,
            *(worker(w.address, *(["base"] * (w.address == other))) for w in workers),
            base=1 << 10,
        )
        == other
    )


def test_a_step_waits_for_memory_that_it_used_the_last_time() -> None:
    needs = Needs(platform=AMD64, deltas=(), memory_bytes=6)
    assert chosen(needs, worker("a", busy=1, memory_bytes=10, memory_used=4)) == "a"
    assert chosen(needs, worker("a", busy=1, memory_bytes=10, memory_used=5)) == ""
    assert chosen(needs, worker("a", memory_bytes=5)) == "a"  # alone it has what there is
    assert chosen(needs, worker("a", busy=1)) == "a"


def test_what_was_weighed_can_be_read() -> None:
    needs = Needs(platform=AMD64, deltas=("x",), mounts=("npm",))
    workers = [worker("a", "x"), worker("b", busy=2)]
    lines = table(place(needs, workers, {"x": int(BYTES_PER_S)}).costs).splitlines()
    away = f"{MOUNT_BYTES / BYTES_PER_S:.2f}"
    home = home_of("npm", workers)
    mounts = {name: "0.00" if name == home else away for name in "ab"}
    total = "0.00" if home == "a" else away
    assert lines == [
        f"a: {total} s = wait 0.00 + bytes 0.00 + cache mounts {mounts['a']}",
        f"b: inf s = wait inf + bytes 1.00 + cache mounts {mounts['b']}",
    ]
    assert table(()) == ""


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
    found = place(needs, workers, {}).worker
    free = [one for one in fitting(needs, workers) if one.busy < one.slots]
    assert (found is None) == (not free)
    assert place(needs, list(reversed(workers)), {}).worker == found
    if found is not None:
        assert found in free
        missing = len({"x", "y"} - set(found.has))
        assert missing == min(len({"x", "y"} - set(one.has)) for one in free)
