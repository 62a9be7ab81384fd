"""Guesses of the name that was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.model.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("bulid", ["build", "test"], "build"),
        ("mont", ["mount", "network"], "mount"),
        ("xyz", ["mount", "network"], None),
        ("mount", ["mount", "mont"], None),  # not the spelling is wrong
        ("ab", ["ac", "ad"], "ac"),  # a tie: always the same answer
        ("x" * 60_000, ["x"], None),
        ("", ["a"], "a"),
        ("Mount", ["mount"], "mount"),
    ],
)
def test_nearest(name: str, options: list[str], expected: str | None) -> None:
    """[IN-6]"""
    assert nearest(name, options) == expected


def test_names_that_nobody_types_are_not_guessed() -> None:
    assert nearest("x" + "a" * 30_000 + "x", ["y" + "a" * 30_000 + "y"]) is None


def test_casing_follows_the_question() -> None:
    assert did_you_mean("FNTRYPOINT", ["entrypoint"], ignore_case=True) == (
        " (did you mean ENTRYPOINT?)"
    )
    assert nearest("rum", ["RUN"], ignore_case=True) == "run"
    assert nearest("Rum", ["RUN"], ignore_case=True) == "RUN"
    assert did_you_mean("zzz", ["RUN"]) == ""


@pytest.mark.slow
@given(a=st.text("abc", max_size=7), b=st.text("abc", max_size=7))
def test_distance_is_that_of_the_textbook(a: str, b: str) -> None:
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            change = table[i - 1, j - 1] + (a[i - 1] != b[j - 1])
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, change)
            if i > 1 and j > 1 and a[i - 2 : i] == b[j - 2 : j][::-1]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    distance = table[len(a), len(b)]
    assert (nearest(a, [b]) == b) == (0 < distance <= 2)
