"""Asks registries about base images for a check; imports the engine, so only when it must be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import uvloop

from pybuild.config import Settings
from pybuild.engine import Engine
from pybuild.frontend.lowering import ImageRequest, ResolvedImage
from pybuild.model.errors import PybuildError

Answers = dict[ImageRequest, ResolvedImage | PybuildError]


def resolve_all(requests: Iterable[ImageRequest], settings: Settings, *, pull: bool) -> Answers:
    """Return each image's config, or why it cannot be had."""
    return uvloop.run(_resolve_all(requests, settings, pull))


async def _resolve_all(requests: Iterable[ImageRequest], settings: Settings, pull: bool) -> Answers:
    async with Engine(settings) as engine:

        async def resolve(request: ImageRequest) -> ResolvedImage | PybuildError:
            try:
                return await engine.images.resolve(request, pull=pull)
            except PybuildError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = {request: group.create_task(resolve(request)) for request in requests}
        return {request: task.result() for request, task in tasks.items()}
