"""Remedies for steps that ran."""

from __future__ import annotations

import pytest

from pybuild.explain.difference import Difference
from pybuild.explain.remedies import remedy_of
from pybuild.explain.report import Miss, Reason


def changed(field: str, path: str = "") -> Miss:
    return Miss(reason=Reason.CHANGED, differences=(Difference(field=field, path=path),))


@pytest.mark.parametrize(
    ("miss", "word"),
    [
        (Miss(reason=Reason.NEW), "--cache URL"),
        (Miss(reason=Reason.EVICTED), "--cache-max"),
        (Miss(reason=Reason.EVICTED, place="r"), "keep more there"),
        (Miss(reason=Reason.IGNORED), "--no-cache"),
        (Miss(reason=Reason.IGNORED), "a longer max-age"),
        (changed("file.mode", "x"), "--modes=git"),
        (changed("file.content", "a/log"), "name it in .dockerignore"),
        (changed("env.VERSION"), "declare it below"),
        (changed("base", "debian"), "FROM name:tag@sha256"),
    ],
)
def test_there_is_a_way_out(miss: Miss, word: str) -> None:
    assert word in remedy_of(miss, has_cache=False)


@pytest.mark.parametrize(
    "miss", [changed("command"), changed("env.order"), Miss(reason=Reason.UNEXPLAINED)]
)
def test_what_had_to_run_has_none(miss: Miss) -> None:
    assert remedy_of(miss, has_cache=False) == ""
    assert remedy_of(Miss(reason=Reason.NEW), has_cache=True) == ""
