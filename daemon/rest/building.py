"""Builds as Docker's clients without BuildKit ask for them: a tar of the context, lines of text [EP-5]."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from aiohttp import web

from pybuild.builds.build import build
from pybuild.builds.givencontexts import unpack_context
from pybuild.builds.request import BuildRequest
from pybuild.daemon.rest.buildparameters import (
    check_remote,
    map_of,
    names_of,
    step_settings,
    tags_of,
)
from pybuild.daemon.rest.exchange import ApiExchange, Handler, nothing
from pybuild.daemon.rest.progresslines import ProgressLines, stream_work
from pybuild.daemon.rest.query import Query
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.registries import logins_of
from pybuild.daemon.rest.sessionbuilding import build_in_session
from pybuild.engine.engine import Engine
from pybuild.model.errors import StepError
from pybuild.model.events import (
    Event,
    LogStream,
    VertexAdded,
    VertexCached,
    VertexLog,
    VertexStarted,
)
from pybuild.registry.client.credentials import StaticCredentials

_STEP = re.compile(r"\[(?:\S+ )?(?:\S+ )?(\d+)/(\d+)\] (.+)", re.DOTALL)
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


def step_line(name: str) -> str:
    """Return the old builder's line for the step of that name; "" for what it had no line for."""
    match = _STEP.fullmatch(name)
    if match is None:
        return ""
    word, _, rest = match[3].partition(" ")
    if word == "FROM":  # as it was written, with neither what was added nor what was looked up
        rest = rest.partition("@sha256:")[0].removeprefix("docker.io/").removeprefix("library/")
    return f"Step {match[1]}/{match[2]} : {word} {rest}\n"


class BuildLines:
    """The events of a build as the lines that Docker's old builder wrote.

    Attributes:
        is_uncached: no step is taken from a cache: what is at hand of a base is no step.
    """

    def __init__(self, lines: ProgressLines, *, quiet: bool) -> None:
        self._lines = lines
        self._quiet = quiet
        self._names: dict[str, str] = {}
        self.is_uncached = False

    def show(self, event: Event) -> None:
        if self._quiet:
            return
        match event:
            case VertexAdded():
                self._names[str(event.vertex)] = event.name
            case VertexStarted() | VertexCached():
                step = step_line(self._names.pop(str(event.vertex), ""))
                if step:
                    self._lines.say(stream=step)
                if step and isinstance(event, VertexCached) and not self.is_uncached:
                    self._lines.say(stream=" ---> Using cache\n")
            case VertexLog():
                text = event.data.decode("utf-8", "replace")
                is_error = event.stream is LogStream.STDERR
                self._lines.log(f"{_RED}{text}{_PLAIN}" if is_error else text)
            case _:
                pass


async def create(exchange: ApiExchange) -> web.StreamResponse:
    """Build an image of a context that comes as a tar, or is named by a URL."""
    query = exchange.query
    if query.text("version") == "2":
        return await build_in_session(exchange)
    remote = query.text("remote")
    check_remote(remote)
    request_of(query, remote or "/")  # what is wrong with it is told before the context comes
    logins = logins_of(exchange)

    async def work(engine: Engine, scratch: str, lines: ProgressLines) -> None:
        shown = BuildLines(lines, quiet=query.flag("q"))
        request = request_of(query, await _context(exchange, scratch))
        if await exchange.host.run(_has_no_cache, engine, query):
            request = replace(request, no_cache=True)
        shown.is_uncached = request.no_cache
        try:
            result = await build(engine, request, shown.show)
        except StepError as error:
            raise _in_old_words(error) from error
        image_id = str(result.image_id or "")
        if query.flag("q"):
            lines.say(stream=f"{image_id}\n")
            return
        lines.say(aux={"ID": image_id})
        lines.say(stream=f"Successfully built {image_id.partition(':')[2][:12]}\n")
        for tag in request.tags:
            lines.say(stream=f"Successfully tagged {tag.familiar}\n")

    async with AsyncExitStack() as stack:  # a client that has read all goes, which cancels us here
        guest = exchange.host.guest(StaticCredentials(logins) if logins else None)
        engine = await stack.enter_async_context(guest)
        scratch = engine.store.scratch("context")
        stack.push_async_callback(asyncio.to_thread, engine.store.discard, scratch)
        await exchange.host.run(os.mkdir, scratch)
        return await stream_work(exchange, partial(work, engine, scratch))


def _has_no_cache(engine: Engine, query: Query) -> bool:
    """Return whether images to take steps from are named, and none of them is here: the old builder takes no other."""
    names = names_of(query, "cachefrom")
    return bool(names) and not any(engine.store.images.resolve(name) for name in names)


def _in_old_words(error: StepError) -> ApiRefusal:
    """Return the failure of a step as the old builder worded it: clients look for that."""
    command = error.message.partition(": ")[2].partition(": ")[2]
    words = f"The command '/bin/sh -c {command}' returned a non-zero code: {error.status}"
    return ApiRefusal(400, words, error.status)


async def _context(exchange: ApiExchange, scratch: str) -> str:
    """Return the context: a URL, or the directory that the body was unpacked to."""
    if remote := exchange.query.text("remote"):
        return remote
    path = os.path.join(scratch, "archive")
    with await exchange.host.run(open, path, "xb") as file:
        async for piece in exchange.pieces():
            await exchange.host.run(file.write, piece)
    return await asyncio.to_thread(unpack_context, path, scratch)


def request_of(query: Query, context: str) -> BuildRequest:
    """Return the build that a query describes.

    Raises:
        ApiRefusal, UserError: there can be none.
    """
    dockerfile = query.text("dockerfile") or "Dockerfile"
    if os.path.isabs(context):
        inside = os.path.normpath(f"/{dockerfile}")
        dockerfile = os.path.join(context, inside.lstrip("/"))
    platform = query.platform()
    return BuildRequest(
        context=context,
        dockerfile=dockerfile,
        tags=tags_of(query),
        target=query.text("target"),
        build_args=map_of(query, "buildargs"),
        labels=map_of(query, "labels"),
        platforms=() if platform is None else (platform,),
        no_cache=query.flag("nocache"),
        pull=query.flag("pull"),
        steps=step_settings(query),
    )


async def cancel(exchange: ApiExchange) -> web.StreamResponse:
    """Cancel a build of a session by its id; another has none, and ends with the connection of its client."""
    name = exchange.query.text("id")
    if not name:
        raise ApiRefusal(400, "build ID not provided")
    solving = exchange.host.running_builds.get(name)
    if solving is None:
        raise ApiRefusal(404, f"build {name[:100]} was not found")
    solving.cancel()
    return nothing(200)


STREAMS: Mapping[str, Handler] = {"POST /build": create}
HANDLERS: Mapping[str, Handler] = {"POST /build/cancel": cancel}
