"""The remote inputs of a check: base images' configs, contexts from elsewhere.

Imports the engine, so only when it must be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pybuild.builds.contexts import BuildInputs
from pybuild.builds.remotecontexts import load_remote_inputs
from pybuild.builds.request import BuildRequest
from pybuild.builds.sources import open_sources
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.engine import Engine
from pybuild.engine.interruptible import run_interruptible
from pybuild.engine.settings import Settings
from pybuild.frontend.lowering.interface import ImageRequest, Pull, ResolvedImage
from pybuild.model.errors import PybuildError
from pybuild.model.events import Event

Answers = dict[ImageRequest, ResolvedImage | PybuildError]


def resolve_all(requests: Iterable[ImageRequest], settings: Settings, *, pull: Pull) -> Answers:
    """Return each image's config, or why it cannot be had."""
    return run_interruptible(_resolve_all(requests, settings, pull))


async def _resolve_all(requests: Iterable[ImageRequest], settings: Settings, pull: Pull) -> Answers:
    async with Engine(settings) as engine:

        async def resolve(request: ImageRequest) -> ResolvedImage | PybuildError:
            try:
                return await engine.images.resolve(request, pull=pull)
            except PybuildError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = {request: group.create_task(resolve(request)) for request in requests}
        return {request: task.result() for request, task in tasks.items()}


def load_remote(request: BuildRequest, stdin: StandardInput, settings: Settings) -> BuildInputs:
    """Return the inputs of a build of a context from elsewhere."""
    return run_interruptible(_load_remote(request, stdin, settings))


async def _load_remote(
    request: BuildRequest, stdin: StandardInput, settings: Settings
) -> BuildInputs:
    def ignore(event: Event) -> None:
        pass

    async with Engine(settings) as engine:
        return await load_remote_inputs(request, stdin, open_sources(engine, request), ignore)
