"""The writers of a store, and the choice of the one that ends for want of space."""

from __future__ import annotations

from pybuild.cache.space.writers import Writers
from pybuild.model.errors import EnvironmentFault


def test_there_is_a_writer_as_long_as_a_block_lasts() -> None:
    writers = Writers()
    assert not writers
    with writers.reserving(5):
        assert writers
    with writers.writing("a", lambda _: None):
        assert writers
    with writers.mounting(["m"]):
        assert writers
    assert not writers


def test_reservations_add_up() -> None:
    writers = Writers()
    with writers.reserving(5), writers.reserving(7):
        assert writers.reserved_bytes() == 12
    assert writers.reserved_bytes() == 0


def test_a_mount_is_written_to_until_its_last_writer_is_done() -> None:
    writers = Writers()
    with writers.mounting(["m"]):
        with writers.mounting(["m", "n"]):
            assert sorted(writers.mounts()) == ["m", "n"]
        assert writers.mounts() == ["m"]
    assert writers.mounts() == []


def test_the_largest_ends_and_only_when_it_has_the_next() -> None:
    writers = Writers()
    ended: list[str] = []

    def end(name: str) -> None:
        anybody, too_much = writers.largest({"small": 1, "large": 2})
        assert anybody
        if too_much is not None:
            too_much(EnvironmentFault(name))

    with writers.writing("small", lambda fault: ended.append(f"small {fault.message}")):
        with writers.writing("large", lambda fault: ended.append(f"large {fault.message}")):
            end("first")
            end("again")
            assert ended == ["large first"]
        end("then")
        assert ended == ["large first", "small then"]
    assert writers.largest({}) == (False, None)
