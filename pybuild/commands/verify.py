"""``pybuild verify``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from pybuild.arguments.build import request_from
from pybuild.builds.verify import verdict_text, verify
from pybuild.commandline.parser import Parsed
from pybuild.engine.settings import load_settings
from pybuild.model.errors import ExitCode, UsageError
from pybuild.model.events import Emit, Event
from pybuild.progress.display import make_display


def main(parsed: Parsed) -> int:
    """Build twice and compare; 0 if the images are one, 1 if they are not."""
    from pybuild.engine.interruptible import run_interruptible

    form = parsed.one("format", "text")
    if form not in ("text", "json"):
        raise UsageError(f'invalid format "{form}": one of text, json')
    request = request_from(parsed)
    settings = load_settings(parsed.one("config"), parsed.one("root"), ca=parsed.many("ca"))
    kind = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    closers: list[Callable[[], None]] = []

    def listener(which: str) -> Emit:
        for close in closers:
            close()
        display = make_display("quiet" if parsed.flag("quiet") else kind)
        closers[:] = [display.close]
        if not parsed.flag("quiet"):
            sys.stderr.write(f"{which} build\n")

        def show(event: Event) -> None:
            display.show(event)

        return show

    try:
        verdict = run_interruptible(verify(settings, request, listener))
    finally:
        for close in closers:
            close()
    if form == "json":
        differences = [asdict(one) for one in verdict.differences]
        shown = {"first": verdict.first, "second": verdict.second, "differences": differences}
        sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    else:
        sys.stdout.write(verdict_text(verdict))
    return ExitCode.OK if verdict.is_same else ExitCode.BUILD_FAILURE
