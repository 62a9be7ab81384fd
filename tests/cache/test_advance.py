"""The space that is asked for in advance follows the speed of writing, within parts of the ceiling."""

from __future__ import annotations

from pybuild.cache.space.advance import Advance

CEILING = 128_000_000
LEAST, MOST = CEILING // 128, CEILING // 8


def test_nobody_who_writes_slowly_asks_for_more_than_the_least() -> None:
    advance = Advance(CEILING)
    for second in range(5):
        advance.adapt(float(second), second * 1000)
    assert advance.size == LEAST
    assert advance.written_while_it_ends() == 0


def test_half_a_second_of_what_was_written_is_asked_for() -> None:
    advance = Advance(CEILING)
    advance.adapt(10.0, 0)
    advance.adapt(11.0, 20_000_000)
    assert advance.size == 10_000_000
    assert advance.written_while_it_ends() == (10_000_000 - LEAST) // 10


def test_no_more_than_an_eighth_is_asked_for() -> None:
    advance = Advance(CEILING)
    advance.adapt(10.0, 0)
    advance.adapt(10.1, CEILING)
    assert advance.size == MOST


def test_an_advance_halves_in_half_a_second_of_silence() -> None:
    advance = Advance(CEILING)
    advance.adapt(10.0, 0)
    advance.adapt(11.0, 24_000_000)
    advance.adapt(11.5, 24_000_000)
    assert advance.size == 6_000_000
    advance.adapt(60.0, 24_000_000)
    assert advance.size == LEAST


def test_a_gigabyte_is_the_most_whatever_the_ceiling() -> None:
    advance = Advance(1 << 40)
    advance.adapt(10.0, 0)
    advance.adapt(11.0, 1 << 39)
    assert advance.size == 1 << 30


def test_two_looks_at_one_moment_divide_by_no_zero() -> None:
    advance = Advance(CEILING)
    advance.adapt(10.0, 0)
    advance.adapt(10.0, 100_000)
    assert advance.size == 5_000_000
