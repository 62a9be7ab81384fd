"""``pybuild doctor``: the abilities of this machine, the rung of isolation they give, and why."""

from __future__ import annotations

import asyncio
import sys

from pybuild.commandline.parser import Parsed
from pybuild.engine.settings import load_settings
from pybuild.executor.doctor import examine, try_in_store
from pybuild.executor.rungs import as_json, as_text, climbed, rungs_of
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
        chosen, detail = asyncio.run(climbed())
        fault = None
    except PybuildError as error:
        chosen, detail, fault = "", error.message, error
    rungs = rungs_of(chosen, detail, checks, tried)
    if kind == "json":
        sys.stdout.write(as_json(chosen, detail, rungs, checks))
    else:
        sys.stdout.write(as_text(rungs, checks))
        if fault is not None:
            sys.stdout.write("".join(f"hint: {hint}\n" for hint in fault.hints))
    return ExitCode.ENVIRONMENT if fault is not None else 0
