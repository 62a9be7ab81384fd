"""The ladder of isolation: the rungs above the one that steps get, each with its obstacle and its mend."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict

from pybuild.executor.doctor import Check, CheckState
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.listing import table

_RUNGS = {
    "root": "real root: owners as they are, all namespaces",
    "userns": "a user namespace with a range of sub-ids: owners as they are",
    "userns-single": "a user namespace with one id: owners are recorded beside the files",
    "chroot": "root that may not mount, as in a container: each step works on a copy",
}


@dataclass(frozen=True, slots=True)
class RungReport:
    """One way to isolate steps; *state* is ``chosen``, ``possible`` or ``not possible``."""

    name: str
    state: str
    what: str
    why: str = ""
    fix: str = ""


def rungs_of(
    chosen: str, detail: str, checks: list[Check], tried: Mapping[str, str]
) -> list[RungReport]:
    """Return the ladder from the top; those above the chosen one with their reason and mend."""
    by_name = {check.name: check for check in checks}
    names = list(_RUNGS)
    if chosen and chosen not in names:
        names.append(chosen)
    above = names.index(chosen) if chosen else len(names)
    rungs: list[RungReport] = []
    for place, name in enumerate(names):
        what = _RUNGS.get(name, "")
        why, fix = _obstacle(name, by_name, tried)
        if name == chosen:
            rungs.append(RungReport(name, "chosen", what))
        elif why or place < above:
            rungs.append(RungReport(name, "not possible", what, why or detail, fix))
        else:
            rungs.append(RungReport(name, "possible", what))
    return rungs


def _obstacle(name: str, checks: Mapping[str, Check], tried: Mapping[str, str]) -> tuple[str, str]:
    """Return the obstacle to a rung, and the mend; empty for none that we know of."""
    if name == "root":
        user = checks["user"]
        if user.state is not CheckState.OK:
            return user.finding, user.fix or "run as root"
        if tried["mount namespace"]:
            return f"no mount namespace: {tried['mount namespace']}", "see user namespaces"
        needed = ["overlay"]
    elif name == "chroot":
        needed = ["chroot"]
    elif name == "userns" and os.geteuid() != 0:
        needed = ["user namespaces", "newuidmap", "sub-ids"]
    else:
        needed = ["user namespaces"]
        if name == "userns":
            needed.append("sub-ids")  # root of a user namespace has what was mapped
        if os.geteuid() == 0 and checks["chroot"].state is CheckState.OK:
            needed.append("/proc")  # else the build takes the next rung
    for one in needed:
        if checks[one].state is CheckState.MISSING:
            return f"{one}: {checks[one].finding}", checks[one].fix
    return "", ""


def as_text(rungs: list[RungReport], checks: list[Check]) -> str:
    """Return the report for people."""
    rows = [["RUNG", "STATE", "WHAT"]]
    rows += [[r.name, r.state, r.why or r.what] for r in rungs]
    text = table(rows) + "\n"
    rows = [["CHECK", "STATE", "FOUND"]]
    rows += [[c.name, str(c.state.value), c.finding] for c in checks]
    text += table(rows)
    fixes = [[r.name, r.fix] for r in rungs if r.fix and r.state != "chosen"]
    fixes += [[c.name, c.fix] for c in checks if c.fix and [c.name, c.fix] not in fixes]
    if fixes:
        text += "\n" + table([["FOR", "DO"], *fixes])
    return text


def as_json(chosen: str, detail: str, rungs: list[RungReport], checks: list[Check]) -> str:
    """Return the report as JSON; *chosen* is the rung that builds use."""
    report = {
        "rung": chosen,
        "detail": detail,
        "rungs": [asdict(rung) for rung in rungs],
        "checks": [
            {"name": c.name, "state": c.state, "found": c.finding, "fix": c.fix} for c in checks
        ],
    }
    return json.dumps(report, indent=2) + "\n"


async def climbed() -> tuple[str, str]:
    """Choose a rung as a build does; return it, and the reasons against better ones."""
    workers = Workers()
    try:
        return await workers.isolation(), await workers.isolation_detail()
    finally:
        await workers.close()
