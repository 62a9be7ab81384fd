"""The run table: any order of offers, claims, departures and ends."""

from __future__ import annotations

import random

from pybuild.cluster.runs import ENDED_S, ClaimVerdict, StepRunState, StepRunTable


def test_a_claim_begins_what_was_offered_and_nothing_else() -> None:
    table = StepRunTable()
    assert table.claim("k", 1) is ClaimVerdict.REFUSED
    assert table.join("k").state is StepRunState.OFFERED
    assert table.claim("k", 1) is ClaimVerdict.BEGIN
    assert table.claim("k", 1) is ClaimVerdict.ATTACH  # another coordinator's
    assert table.claim("k", 3) is ClaimVerdict.ATTACH  # after its scheduler died
    assert table.claim("k", 2) is ClaimVerdict.STALE
    assert table.join("k").epoch == 3
    table.end("k", well=True, now=0.0)
    assert table.claim("k", 4) is ClaimVerdict.ATTACH
    assert table.join("k").state is StepRunState.ENDED


def test_a_run_without_listeners_is_stopped() -> None:
    table = StepRunTable()
    table.join("k")
    table.join("k")
    assert table.begin("k")
    assert not table.begin("k")
    assert not table.leave("k")
    assert table.leave("k")
    assert table.get("k") is None
    table.join("k")
    assert not table.leave("k")  # it had not begun
    assert table.claim("k", 1) is ClaimVerdict.REFUSED


def test_a_run_that_failed_runs_again_and_one_that_ended_well_is_known_for_a_while() -> None:
    table = StepRunTable()
    table.join("bad")
    table.begin("bad")
    table.end("bad", well=False, now=0.0)
    assert table.join("bad").state is StepRunState.OFFERED
    table.join("good")
    table.begin("good")
    table.end("good", well=True, now=0.0)
    assert table.expire(2 * ENDED_S) == []  # somebody listens
    assert not table.leave("good")
    assert table.expire(ENDED_S) == []
    assert table.expire(ENDED_S + 1) == ["good"]
    assert table.get("good") is None


def test_no_history_begins_a_run_twice_or_lowers_an_epoch() -> None:
    """[A12]"""
    for seed in range(300):
        draw = random.Random(seed)
        table = StepRunTable()
        listeners = running = 0
        highest = 0
        for _ in range(60):
            match draw.choice(("join", "leave", "claim", "end")):
                case "join":
                    table.join("k")
                    listeners += 1
                case "leave" if listeners:
                    listeners -= 1
                    row = table.get("k")
                    if row is None:
                        continue
                    if table.leave("k"):
                        assert running == 1
                        running = 0
                case "claim":
                    epoch = draw.randrange(5)
                    row = table.get("k")
                    highest = 0 if row is None else row.epoch
                    verdict = table.claim("k", epoch)
                    if verdict is ClaimVerdict.BEGIN:
                        assert running == 0
                        running = 1
                    row = table.get("k")
                    assert row is None or row.epoch >= highest
                case "end" if running:
                    well = draw.random() < 0.5
                    table.end("k", well=well, now=0.0)
                    running = 0
                    if not well:
                        listeners = 0
                case _:
                    pass
            row = table.get("k")
            if row is None:
                listeners = 0
            else:
                assert row.listeners == listeners
                assert (row.state is StepRunState.RUNNING) == (running == 1)
