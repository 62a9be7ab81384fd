"""The ladder of isolation, each obstacle by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from pybuild.executor.doctor import Check, CheckState
from pybuild.executor.rungs import RungReport, as_text, rungs_of

OK, MISSING, LIMITED = CheckState.OK, CheckState.MISSING, CheckState.LIMITED
NAMES = ("user", "user namespaces", "newuidmap", "sub-ids", "overlay", "/proc", "chroot")
TRIED = {"mount namespace": ""}


def ladder(
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    chosen: str = "",
    tried: Mapping[str, str] = TRIED,
    **states: CheckState,
) -> dict[str, RungReport]:
    """Return the rungs by name, where all checks are well but for *states*."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    named = {name.replace("_", " "): state for name, state in states.items()}
    checks = [
        Check(name, named.get(name.removeprefix("/"), OK), f"{name} found", f"mend {name}")
        for name in NAMES
    ]
    return {rung.name: rung for rung in rungs_of(chosen, "detail", checks, tried)}


def states_of(rungs: dict[str, RungReport]) -> list[str]:
    return [rung.state for rung in rungs.values()]


def test_rungs_below_the_chosen_one_are_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = ladder(monkeypatch, 0, "root")
    assert states_of(rungs) == ["chosen", "possible", "possible", "possible"]
    assert {rung.why + rung.fix for rung in rungs.values()} == {""}
    assert rungs["root"].what == "real root: owners as they are, all namespaces"
    rungs = ladder(monkeypatch, 0, "chroot")
    assert states_of(rungs) == ["not possible"] * 3 + ["chosen"]
    assert [rung.why for rung in rungs.values()] == ["detail"] * 3 + [""]


def test_a_rung_that_has_no_words_stands_last(monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = ladder(monkeypatch, 7, "new")
    assert list(rungs)[-1] == "new"
    assert (rungs["new"].state, rungs["new"].what) == ("chosen", "")


@pytest.mark.parametrize("state", [MISSING, LIMITED, CheckState.INFO])
def test_root_needs_to_be_root(monkeypatch: pytest.MonkeyPatch, state: CheckState) -> None:
    root = ladder(monkeypatch, 0, "userns", user=state)["root"]
    assert (root.state, root.why, root.fix) == ("not possible", "user found", "mend user")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    checks = [Check(name, state if name == "user" else OK, "found", "") for name in NAMES]
    assert rungs_of("userns", "", checks, TRIED)[0].fix == "run as root"


def test_root_needs_mounts_and_overlays(monkeypatch: pytest.MonkeyPatch) -> None:
    root = ladder(monkeypatch, 0, tried={"mount namespace": "refused"}, overlay=MISSING)["root"]
    assert (root.why, root.fix) == ("no mount namespace: refused", "see user namespaces")
    root = ladder(monkeypatch, 0, overlay=MISSING)["root"]
    assert (root.why, root.fix) == ("overlay: overlay found", "mend overlay")
    assert ladder(monkeypatch, 0, overlay=LIMITED)["root"].why == "detail"
    others = ladder(monkeypatch, 0, "chroot", overlay=MISSING)
    assert others["userns"].why == "detail"


@pytest.mark.parametrize(
    ("uid", "missing", "rungs"),
    [
        (7, "user namespaces", {"userns", "userns-single"}),
        (7, "newuidmap", {"userns"}),
        (7, "sub-ids", {"userns"}),
        (7, "proc", set[str]()),
        (7, "chroot", {"chroot"}),
        (0, "user namespaces", {"userns", "userns-single"}),
        (0, "newuidmap", set[str]()),
        (0, "sub-ids", {"userns"}),
        (0, "proc", {"userns", "userns-single"}),
        (0, "chroot", {"chroot"}),
    ],
)
def test_each_rung_needs_its_own_things(
    monkeypatch: pytest.MonkeyPatch, uid: int, missing: str, rungs: set[str]
) -> None:
    made = ladder(monkeypatch, uid, "root", TRIED, **{missing: MISSING})
    name = next(name for name in NAMES if name.removeprefix("/") == missing)
    assert {rung.name for rung in made.values() if rung.state == "not possible"} == rungs
    assert {(made[rung].why, made[rung].fix) for rung in rungs} <= {
        (f"{name}: {name} found", f"mend {name}")
    }


def test_root_that_cannot_change_its_root_needs_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ladder(monkeypatch, 0, "root", proc=MISSING, chroot=MISSING)
    assert made["userns"].state == made["userns-single"].state == "possible"


def test_a_mend_is_said_once_and_none_for_what_was_chosen() -> None:
    rungs = [
        RungReport("root", "not possible", "what", "why", "mend it"),
        RungReport("userns", "chosen", "what", fix="never shown"),
    ]
    checks = [Check("root", MISSING, "found", "mend it"), Check("kernel", OK, "6.1", "")]
    assert as_text(rungs, checks) == (
        "RUNG     STATE          WHAT\n"
        "root     not possible   why\n"
        "userns   chosen         what\n"
        "\n"
        "CHECK    STATE     FOUND\n"
        f"root     {MISSING.value:<10}found\n"
        f"kernel   {OK.value:<10}6.1\n"
        "\n"
        "FOR    DO\n"
        "root   mend it\n"
    )
    assert "FOR" not in as_text(rungs[1:], checks[1:])
