"""``pybuild lock``: writes down what the sources of a build are, for ``build --locked``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from pybuild.arguments.build import request_from
from pybuild.builds.lockfile import Lock, changes, lock_path, read_lock
from pybuild.builds.locking import lock_sources
from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.engine.settings import load_settings
from pybuild.exporter.atomicfile import write_whole
from pybuild.model.errors import ExitCode
from pybuild.progress.display import make_display


def main(parsed: Parsed) -> int:
    """Write the lock file, and show what is new in it; with ``--check`` only show, and fail if there is."""
    from pybuild.engine.interruptible import run_interruptible

    request = replace(request_from(parsed), pull="newer", outputs=())
    settings = load_settings(parsed.one("config"), parsed.one("root"), ca=parsed.many("ca"))
    settings = replace(settings, logins=request.logins)
    path = lock_path(request.context, parsed.one("lockfile"))
    before = read_lock(path) if os.path.lexists(path) else Lock({})
    kind = parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    display = make_display("quiet" if parsed.flag("quiet") else kind, "Locking")

    async def work() -> Lock:
        async with Engine(settings) as engine:
            return await lock_sources(engine, request, display.show)

    try:
        lock = run_interruptible(work())
    finally:
        display.close()
    lines = changes(before, lock)
    if not parsed.flag("check"):
        write_whole(path, lock.text())
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return ExitCode.BUILD_FAILURE if lines and parsed.flag("check") else ExitCode.OK
