"""``pybuild run --stage`` and ``--from-step``: a container of what a build has made so far."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pybuild.arguments.environment import platforms_of
from pybuild.arguments.values import parse_pairs
from pybuild.builds.request import BuildRequest
from pybuild.builds.stagetree import StageTree, stage_tree
from pybuild.commandline.parser import Parsed
from pybuild.engine.engine import Engine
from pybuild.model.errors import UsageError
from pybuild.progress.display import make_display


@asynccontextmanager
async def stage_of(parsed: Parsed, engine: Engine) -> AsyncGenerator[StageTree]:
    """Give the tree that the options name; the first word is the context.

    Raises:
        UsageError, UserError, EnvironmentFault: there is none.
    """
    text = parsed.one("from-step")
    if text and not text.isdecimal():
        raise UsageError(f'invalid --from-step "{text}": expected a number')
    request = BuildRequest(
        context=parsed.positionals[0],
        dockerfile=parsed.one("file"),
        target=parsed.one("stage"),
        platforms=platforms_of(parsed),
        build_args=parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True),
    )
    kind = "quiet" if parsed.flag("quiet") else os.environ.get("BUILDKIT_PROGRESS", "auto")
    display = make_display(kind)
    is_open = True
    try:
        async with stage_tree(engine, request, int(text or 0), display.show) as tree:
            display.close()
            is_open = False
            yield tree
    finally:
        if is_open:
            display.close()
