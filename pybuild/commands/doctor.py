"""``pybuild doctor``: the abilities of this machine, the rung of isolation they give, and why."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict

from pybuild.cache.disk.atomic import make_parents
from pybuild.cache.disk.custody import take
from pybuild.cache.disk.ownership import doubt
from pybuild.commandline.parser import Parsed
from pybuild.commands.listing import table
from pybuild.engine.settings import load_settings
from pybuild.executor.doctor import Check, CheckState, examine, try_all
from pybuild.executor.rungs import RungReport, rungs_of
from pybuild.executor.workers.launch import default_pythonpath
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import ExitCode, PybuildError, UsageError


def main(parsed: Parsed) -> int:
    """Print the report; fails where no step can be isolated at all."""
    kind = parsed.one("format", "table")
    if kind not in {"table", "json"}:
        raise UsageError(f'invalid format "{kind}": one of table, json')
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    store, tried = _try_in_store(settings.root)
    checks = [store, *examine(tried)]
    try:
        chosen, detail = asyncio.run(_climb())
        fault = None
    except PybuildError as error:
        chosen, detail, fault = "", error.message, error
    rungs = rungs_of(chosen, detail, checks, tried)
    if kind == "json":
        report = {
            "rung": chosen,
            "detail": detail,
            "rungs": [asdict(rung) for rung in rungs],
            "checks": [asdict(check) for check in checks],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(as_text(rungs, checks))
        if fault is not None:
            sys.stdout.write("".join(f"hint: {hint}\n" for hint in fault.hints))
    return ExitCode.ENVIRONMENT if fault is not None else 0


async def _climb() -> tuple[str, str]:
    """Choose as a build does, and return the rung and the reasons against better ones."""
    workers = Workers()
    try:
        return await workers.isolation(), await workers.isolation_detail()
    finally:
        await workers.close()


def _try_in_store(root: str) -> tuple[Check, Mapping[str, str]]:
    made = not os.path.isdir(root)
    store, place = _place_in_store(root)
    if not place:
        with tempfile.TemporaryDirectory(prefix="pybuild-doctor-") as folder:
            return store, try_all(folder, default_pythonpath())
    try:
        return store, try_all(place, default_pythonpath())
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if made and not os.listdir(root):
            os.rmdir(root)


def _place_in_store(root: str) -> tuple[Check, str]:
    """Make a directory in the store; empty with the reason if that cannot be."""
    try:
        refusal = take(root, lambda message: None)
        if refusal is not None:
            why, hints = refusal
            return Check("store", CheckState.MISSING, f"{root} {why}", "; ".join(hints)), ""
        make_parents(os.path.join(root, "x"))
        place = tempfile.mkdtemp(prefix="doctor-", dir=root)
        danger = doubt(root)
    except OSError as error:
        text = f"{root}: {error.strerror}"
        return Check("store", CheckState.MISSING, text, "choose another directory with --root"), ""
    if danger:
        return Check(
            "store", CheckState.LIMITED, f"{root}: {danger.text}", "take that right away"
        ), place
    return Check("store", CheckState.OK, root), place


def as_text(rungs: list[RungReport], checks: list[Check]) -> str:
    """Return the report for people."""
    rows = [["RUNG", "STATE", "WHAT"]]
    rows += [[r.name, r.state, r.why or r.what] for r in rungs]
    text = table(rows) + "\n"
    rows = [["CHECK", "STATE", "FOUND"]]
    rows += [[c.name, str(c.state.value), c.found] for c in checks]
    text += table(rows)
    fixes = [[r.name, r.fix] for r in rungs if r.fix and r.state != "chosen"]
    fixes += [[c.name, c.fix] for c in checks if c.fix and [c.name, c.fix] not in fixes]
    if fixes:
        text += "\n" + table([["FOR", "DO"], *fixes])
    return text
