"""Events of containers, images, networks and volumes, as they are done [EP-2, ENG-45…49]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiohttp import web

from pybuild.containers.events import (
    EventStream,
    event_filter,
    parse_event_filters,
    with_status,
)
from pybuild.containers.moments import read_moment
from pybuild.daemon.rest.exchange import ApiExchange, Handler, json_line

_PAUSE_S = 0.05


async def events(exchange: ApiExchange) -> web.StreamResponse:
    """Send events until the client goes, or until a time; the head goes at once."""
    query, host, now = exchange.query, exchange.host, time.time_ns()
    since, until = (read_moment(query.text(name), now) for name in ("since", "until"))
    fits = event_filter(parse_event_filters(query.filters()))
    stream = await host.run(EventStream, host.store.root, since=since, until=until, fits=fits)
    host.listeners += 1
    try:
        response = await exchange.begin()
        while (some := stream.read()) is not None:
            if some:
                await response.write(b"".join(json_line(with_status(one)) for one in some))
            else:
                await asyncio.sleep(_PAUSE_S)
        await response.write_eof()
    finally:
        host.listeners -= 1
        stream.close()
    return response


HANDLERS: Mapping[str, Handler] = {"GET /events": events}
