"""Guesses of the name that was meant."""

from __future__ import annotations

import pytest

from pybuild.frontend.suggest import did_you_mean, nearest


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


def test_casing_follows_the_question() -> None:
    assert did_you_mean("FNTRYPOINT", ["entrypoint"], ignore_case=True) == (
        " (did you mean ENTRYPOINT?)"
    )
    assert nearest("rum", ["RUN"], ignore_case=True) == "run"
    assert nearest("Rum", ["RUN"], ignore_case=True) == "RUN"
    assert did_you_mean("zzz", ["RUN"]) == ""
