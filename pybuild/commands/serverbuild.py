"""``pybuild -H ADDR build``: the same build, done by a server.

Imported only when there is one to be used.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from pybuild.arguments.build import check_result_files, request_from, write_results
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.client.build import build as remote_build
from pybuild.client.builders import BuilderRecord
from pybuild.client.connect import connected
from pybuild.commandline.parser import Parsed
from pybuild.explain.report import BuildReport
from pybuild.exporter.output import Output
from pybuild.model.errors import Cancelled, UsageError
from pybuild.progress.display import Display, make_display

T = TypeVar("T")


def build(parsed: Parsed, builder: BuilderRecord) -> int:
    """Run one build on *builder* as the command line asks for it; returns the exit code."""
    if parsed.one("runtime"):
        raise UsageError(
            "--runtime is the build server's to choose", hints=["start it with --runtime"]
        )
    load = bool(parsed.values.pop("load", ["false"])[-1] == "true")
    if parsed.one("cache-max"):
        raise UsageError(
            "--cache-max is about the store of this machine",
            hints=("start the server with it: pybuild daemon --cache-max SIZE",),
        )
    request = request_from(parsed)
    check_result_files(parsed)
    quiet = parsed.flag("quiet")
    kind = "quiet" if quiet else parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    display = make_display(kind)
    explained: list[BuildReport] | None = [] if parsed.flag("explain") else None
    try:
        if load:
            result = _load(parsed, builder, request, display, explained)
        else:
            result = run(_build(builder, request, display, explained))
    finally:
        display.close()
        if explained:
            from pybuild.explain.text import report_text

            sys.stderr.write(report_text(explained[0]))
    write_results(parsed, result)
    if quiet:
        sys.stdout.write(f"{result.image_id or ''}\n")
    return 0


async def _build(
    builder: BuilderRecord,
    request: BuildRequest,
    display: Display,
    explained: list[BuildReport] | None,
) -> BuildResult:
    """Build, and put why steps ran into *explained*, also where that fails."""
    async with connected(builder) as channel:
        if explained is None and not request.fail_on_miss:
            return await remote_build(channel, request, display.show)
        from pybuild.client.explain import reports

        ref = os.urandom(16).hex()
        await reports(channel, ref=ref)  # or nothing runs for the sake of what cannot be said
        try:
            return await remote_build(channel, request, display.show, ref=ref)
        finally:
            if explained is not None:
                explained += await reports(channel, ref=ref)


def _load(
    parsed: Parsed,
    builder: BuilderRecord,
    request: BuildRequest,
    display: Display,
    explained: list[BuildReport] | None,
) -> BuildResult:
    """Build there, and take the image into the store here (``--load``)."""
    from pybuild.cache.store import Store
    from pybuild.client.load import take
    from pybuild.engine.host import SystemClock
    from pybuild.engine.settings import load_settings
    from pybuild.exporter.docker.load import load_where_found

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    with Store.open(settings.root, SystemClock()) as store:
        folder = store.scratch("load")
        os.mkdir(folder)
        try:
            output = Output(type="oci", dest=folder, attrs={"tar": "false"})
            wanted = replace(request, outputs=(*request.outputs, output))
            result = run(_build(builder, wanted, display, explained))
            take(store, folder, result)
            if result.image is not None:
                image = replace(result.image, annotations={})
                where = (store, SystemClock(), os.environ)
                run(load_where_found(*where, image, result.names, display.show))
        finally:
            store.discard(folder)
    return result


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* with an event loop of its own; SIGTERM ends it as Ctrl-C does.

    Raises:
        Cancelled: it was ended so.
    """
    import uvloop

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            raise Cancelled("context canceled") from None

    return uvloop.run(stoppable())
