"""A sample of the fuzzer, which would notice when one of its targets no longer works."""

from __future__ import annotations

import asyncio

from tests.daemon.fuzz import run
from tests.daemon.fuzz_inputs import cut, seeds
from tests.daemon.fuzz_targets import TARGETS


def test_sample_finds_nothing_and_reaches_both_good_and_bad_ends() -> None:
    tally = asyncio.run(run(250, seed=3))
    assert not tally.findings, "\n".join(tally.findings)
    outcomes = set(tally.outcomes)
    assert {"server: fine", "client: fine", "grpc_server: lost"} <= outcomes
    assert any(outcome.startswith("server: failed") for outcome in outcomes)
    assert any(outcome.startswith("grpc_client: 2 done, OK") for outcome in outcomes)


def test_seeds_are_cut_at_frames() -> None:
    corpus = seeds()
    assert set(corpus) == set(TARGETS)
    for data in corpus["server"] + corpus["client"]:
        pieces = cut(data)
        assert b"".join(pieces) == data
        assert len(pieces) > 2
