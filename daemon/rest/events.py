"""Events of containers, images, networks and volumes, as they are done [EP-2, ENG-45…49]."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from aiohttp import web

from pybuild.cache.disk.journal import FOLDER
from pybuild.containers.events import (
    EventStream,
    event_filter,
    with_status,
)
from pybuild.containers.moments import read_moment
from pybuild.daemon.rest.exchange import ApiExchange, Handler, json_line
from pybuild.daemon.rest.foldernotices import until_set
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.filtertext import filter_values

_LOOKS_S = 1.0


async def events(exchange: ApiExchange) -> web.StreamResponse:
    """Send events until the client goes, or until a time; the head goes at once."""
    query, host, now = exchange.query, exchange.host, time.time_ns()
    since, until = (read_moment(query.text(name), now) for name in ("since", "until"))
    if query.text("until") == "0":
        until = 0
    if since is not None and until is not None and since > until:
        shown = [query.text(name)[:40] for name in ("since", "until")]
        raise ApiRefusal(
            400, f"`since` time ({shown[0]}) cannot be after `until` time ({shown[1]})"
        )
    fits = event_filter(filter_values(query.filters()))
    stream = await host.run(EventStream, host.store.root, since=since, until=until, fits=fits)
    host.listeners += 1
    try:
        response = await exchange.begin()
        with host.notices.watch(os.path.join(host.store.root, FOLDER)) as changed:
            while True:
                changed.clear()
                if (some := stream.read()) is None:
                    break
                if some:
                    await response.write(b"".join(json_line(with_status(one)) for one in some))
                else:
                    left = _LOOKS_S if until is None else (until - time.time_ns()) / 1e9
                    await until_set(changed, min(_LOOKS_S, max(0.0, left)))
        await response.write_eof()
    finally:
        host.listeners -= 1
        stream.close()
    return response


STREAMS: Mapping[str, Handler] = {"GET /events": events}
