"""``pybuild doctor``: the abilities of this machine, the rung of isolation they give, and why."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict

from pybuild.commandline.parser import Parsed
from pybuild.engine.settings import load_settings
from pybuild.executor.doctor import examine, try_in_store
from pybuild.executor.rungs import as_text, rungs_of
from pybuild.executor.workers.workers import Workers
from pybuild.model.errors import ExitCode, PybuildError, UsageError


def main(parsed: Parsed) -> int:
    """Print the report; fails where no step can be isolated at all."""
    kind = parsed.one("format", "table")
    if kind not in {"table", "json"}:
        raise UsageError(f'invalid format "{kind}": one of table, json')
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    store, tried = try_in_store(settings.root)
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
            "checks": [
                {"name": c.name, "state": c.state, "found": c.finding, "fix": c.fix} for c in checks
            ],
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
