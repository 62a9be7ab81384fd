"""Blocks of generators, as contextlib has them, for commands that are over in milliseconds."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from pybuild.model.lightlib import cached_property, contextmanager, suppress


@contextmanager
def noting(notes: list[str], *, hides: bool = False) -> Generator[str]:
    notes.append("before")
    try:
        yield "it"
    except LookupError:
        notes.append("fault")
        if not hides:
            raise
    finally:
        notes.append("behind")


def test_what_stands_behind_is_done_whatever_happens() -> None:
    notes: list[str] = []
    with noting(notes) as made:
        notes.append(made)
    assert notes == ["before", "it", "behind"]
    with pytest.raises(KeyError), noting(notes):
        raise KeyError("x")
    assert notes[3:] == ["before", "fault", "behind"]
    with pytest.raises(OSError), noting(notes, hides=True):
        raise OSError


def test_a_generator_that_goes_on_has_hidden_the_fault() -> None:
    notes: list[str] = []
    with noting(notes, hides=True):
        raise KeyError("x")
    assert notes == ["before", "fault", "behind"]


def test_a_fault_out_of_a_generator_takes_the_place_of_the_first() -> None:
    @contextmanager
    def changing() -> Generator[None]:
        try:
            yield
        except KeyError as error:
            raise ValueError("other") from error

    with pytest.raises(ValueError, match="other"), changing():
        raise KeyError("x")


def test_the_end_of_an_iteration_goes_through() -> None:
    notes: list[str] = []
    with pytest.raises(StopIteration), noting(notes):
        raise StopIteration
    assert notes == ["before", "behind"]


def test_a_generator_with_two_yields_is_none() -> None:
    @contextmanager
    def twice() -> Generator[None]:
        yield
        yield

    with pytest.raises(RuntimeError, match="generator didn't stop"), twice():
        pass


def test_only_what_is_named_is_suppressed() -> None:
    with suppress(KeyError, OSError):
        raise FileNotFoundError
    with pytest.raises(IndexError), suppress(KeyError):
        raise IndexError


def test_a_value_is_computed_once() -> None:
    class Thing:
        count = 0

        @cached_property
        def value(self) -> int:
            self.count += 1
            return self.count

    thing = Thing()
    assert (thing.value, thing.value, Thing().value) == (1, 1, 1)
