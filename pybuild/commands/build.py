"""``pybuild build``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pybuild.arguments.build import check_result_files, request_from, write_results
from pybuild.builds.build import build_prepared
from pybuild.builds.prepare import prepare
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings, load_settings
from pybuild.explain.report import BuildReport
from pybuild.memo.remembering import remember, sign
from pybuild.model.errors import Cancelled
from pybuild.model.events import Event, VertexAdded, VertexCached, VertexCompleted
from pybuild.model.ops import Vertex
from pybuild.progress.display import Display, make_display

if TYPE_CHECKING:
    from pybuild.buildkit.llb.described import Definition
    from pybuild.executor.workers.launch import Ahead


_SWITCH_S = 0.0005


def main(parsed: Parsed, ahead: Ahead | None = None) -> int:
    """Run one build as the command line asks for it; returns the exit code.

    Args:
        ahead: workers that were started already; those that the build does not take stay.
    """
    import uvloop

    # The event loop starts the next step while threads store the last one's result; with the usual
    # 5 ms it would wait for its turn longer than most of what it does takes.
    sys.setswitchinterval(_SWITCH_S)
    request = request_from(parsed)
    check_result_files(parsed)
    settings = load_settings(
        parsed.one("config"),
        parsed.one("root"),
        runtime=parsed.one("runtime"),
        cache_max=parsed.one("cache-max"),
    )
    quiet = parsed.flag("quiet")
    kind = "quiet" if quiet else parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    display = make_display(kind)
    explained: list[BuildReport] = []
    try:
        result = uvloop.run(_build(request, settings, parsed, display, explained.append, ahead))
    finally:
        display.close()
        if explained and parsed.flag("explain"):
            from pybuild.explain.text import report_text

            sys.stderr.write(report_text(explained[-1]))
    write_results(parsed, result)
    if quiet:
        sys.stdout.write(f"{result.image_id or ''}\n")
    return 0


async def _build(
    request: BuildRequest,
    settings: Settings,
    parsed: Parsed,
    display: Display,
    explained: Callable[[BuildReport], None],
    ahead: Ahead | None,
) -> BuildResult:
    shown: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, VertexAdded | VertexCached | VertexCompleted):
            shown.append(event)
        display.show(event)

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with Engine(settings, ahead=ahead) as engine:
            if not settings.durable:
                engine.store.flush_after_us()
            prepared = await prepare(engine, request, emit)
            signed = await sign(parsed, prepared)
            describe = _describe if request.attestations else None
            result = await build_prepared(
                engine, prepared, emit, describe=describe, explained=explained
            )
            if signed is not None:
                await asyncio.to_thread(remember, engine, parsed, prepared, signed, result, shown)
            if parsed.flag("load") and result.image is not None:
                from pybuild.exporter.docker.load import load_where_found

                where = (engine.store, engine.clock, os.environ)
                await load_where_found(*where, result.image, result.names, display.show)
            return result
    except asyncio.CancelledError:
        raise Cancelled("context canceled") from None


def _describe(result: Vertex, files: Mapping[str, bytes], origin: Vertex | None) -> Definition:
    """Write a definition for provenance; LLB is a thing of the daemon's and of its clients."""
    from pybuild.buildkit.llb.steps import describe, local_vertex

    if origin is not None:
        return describe(result, files, origin)
    local, queries = local_vertex("dockerfile", *files)
    return describe(result, files, local, queries)
