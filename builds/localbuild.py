"""A build in this process, and the memo of it that answers the next one (`pybuild.builds.memo`)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from pybuild.builds.build import build_prepared, load_result, with_load
from pybuild.builds.prepare import prepare
from pybuild.builds.recording import recorded
from pybuild.builds.remembering import remember, sign
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import Settings
from pybuild.explain.report import BuildReport
from pybuild.model.events import Emit, Event, VertexAdded, VertexCached, VertexCompleted

if TYPE_CHECKING:
    from pybuild.builds.manymemos import Memos
    from pybuild.builds.memo import CommandOptions
    from pybuild.builds.namedbuild import NamedBuild
    from pybuild.executor.workers.launch import Ahead


Within = Callable[[Engine], AbstractAsyncContextManager[None]]

_SWITCH_S = 0.0005


def build_here(
    parsed: CommandOptions,
    settings: Settings,
    ahead: Ahead | None,
    request: BuildRequest,
    emit: Emit,
    explained: Callable[[BuildReport], None],
    within: Within | None = None,
) -> BuildResult:
    """Make one build.

    Args:
        parsed: the command line, which a memo is found by.
        ahead: workers that were started already; those that the build does not take stay.
        within: entered with the engine before the build begins.
    """
    # The event loop starts the next step while threads store the last one's result; with the usual
    # 5 ms it would wait for its turn longer than most of what it does takes.
    sys.setswitchinterval(_SWITCH_S)
    return run_interruptible(_build(parsed, settings, ahead, request, emit, explained, within))


async def _build(
    parsed: CommandOptions,
    settings: Settings,
    ahead: Ahead | None,
    request: BuildRequest,
    emit: Emit,
    explained: Callable[[BuildReport], None],
    within: Within | None,
) -> BuildResult:
    shown: list[Event] = []

    def show(event: Event) -> None:
        if isinstance(event, VertexAdded | VertexCached | VertexCompleted):
            shown.append(event)
        emit(event)

    request = with_load(request)
    async with Engine(settings, ahead=ahead) as engine, _entered(within, engine):
        if not settings.durable and not parsed.flag("no-background"):
            engine.store.flush_after_us()
        with recorded(engine, request, show) as recording:
            prepared = await prepare(engine, recording.request, recording.emit)
            signed = await sign(parsed, prepared)
            result = await build_prepared(engine, prepared, recording, explained=explained)
        if signed is not None:
            await asyncio.to_thread(remember, engine, parsed, prepared, signed, result, shown)
        await load_result(engine, request, result, os.environ, emit)
        return result


def _entered(within: Within | None, engine: Engine) -> AbstractAsyncContextManager[None]:
    return nullcontext() if within is None else within(engine)


def build_all_here(
    parsed: CommandOptions,
    settings: Settings,
    builds: Mapping[str, NamedBuild],
    emit: Emit,
    memos: Memos,
    answered: Collection[str],
    within: Within | None = None,
) -> dict[str, BuildResult]:
    """Make several builds in one engine.

    Args:
        answered: names of those that nothing has to be done for.
    """
    from pybuild.builds.manybuilds import make_builds

    sys.setswitchinterval(_SWITCH_S)

    async def work() -> dict[str, BuildResult]:
        async with Engine(settings) as engine, _entered(within, engine):
            if not settings.durable and not parsed.flag("no-background"):
                engine.store.flush_after_us()
            return await make_builds(engine, builds, os.environ, emit, memos, answered)

    return run_interruptible(work())
