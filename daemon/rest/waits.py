"""Waiting for the ends of containers [CTR-60]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from aiohttp import web

from pybuild.containers.container import Container
from pybuild.containers.order import StreamAttachment
from pybuild.daemon.rest.exchange import ApiExchange, Handler, RestHost, json_line
from pybuild.daemon.rest.lines import MonitorLine
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.errors import UserError

_CONDITIONS = ("", "not-running", "next-exit", "removed")
_ONLY_WAITS = StreamAttachment(stdout=False, stderr=False)
_PAUSE_S, _LOOK_S = 0.005, 0.25


async def wait(exchange: ApiExchange) -> web.StreamResponse:
    """Answer with the exit code when a container has ended; the head goes at once."""
    condition, host = exchange.query.text("condition"), exchange.host
    if condition not in _CONDITIONS:
        raise ApiRefusal(400, f'invalid condition: "{condition[:100]}"')
    container = await exchange.container()
    state = await host.run(container.state)
    line: MonitorLine | None = None
    blocks = condition == "next-exit" or (condition == "removed" and not state.started)
    if blocks and not state.lives:
        line = host.waiting.wait(container.config.id, _ONLY_WAITS)
    try:
        response = await exchange.begin()
        code = state.exit_code
        if line is not None:
            or_removed = condition == "removed"
            code = await _next_end(host, container, line, state.finished, or_removed=or_removed)
        elif state.lives:
            code = await until_ended(host, container)
    finally:
        if line is not None:
            host.waiting.leave(container.config.id, line)
    if condition == "removed":
        pause = _PAUSE_S
        while os.path.lexists(container.path):
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_S)
    await response.write(json_line({"StatusCode": code}))
    await response.write_eof()
    return response


async def _next_end(
    host: RestHost, container: Container, line: MonitorLine, before: int, *, or_removed: bool
) -> int:
    """Return the exit code of the next run of a container that did not run, and had ended at *before*."""
    hearing = asyncio.ensure_future(line.hear())
    try:
        while True:
            # It may have been started before the line was there, or by another than this server, or removed.
            # Otherwise its monitor has our line, and says how it ends.
            if host.waiting.has(container.config.id):
                if not os.path.lexists(container.path):
                    break
                state = await host.run(container.state)
                if state.lives:
                    return await until_ended(host, container)
                if state.finished != before:
                    return state.exit_code
            done, _ = await asyncio.wait([hearing], timeout=_LOOK_S)
            if done:
                message = hearing.result()
                if message is not None and message[0] == "ended":
                    return int(message[1])
                break
    except UserError:
        return 0 if or_removed else 137  # it was removed
    finally:
        hearing.cancel()
    try:
        return (await host.run(container.state)).exit_code
    except UserError:
        return 0


async def until_ended(host: RestHost, container: Container) -> int:
    """Return a container's exit code when it has ended, or is to be started again."""
    while True:
        try:
            state = await host.run(container.state)
        except UserError:
            return 0  # it was removed
        if not state.lives:
            return state.exit_code
        own = await host.run(container.connect)
        if own is None:
            await asyncio.sleep(_PAUSE_S)  # it is about to end, or to begin
            continue
        line = MonitorLine(own)
        try:
            await line.say("wait")
            message = await line.hear()
        finally:
            line.close()
        if message is not None and message[0] == "ended":
            return int(message[1])


STREAMS: Mapping[str, Handler] = {"POST /containers/{name}/wait": wait}
