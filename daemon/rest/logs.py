"""The output of containers, from their logs [EP-26, CTR-76]."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from aiohttp import web

from pybuild.containers.logreading import LogLine, LogReader, details_of, log_time
from pybuild.daemon.rest.exchange import ApiExchange, Handler
from pybuild.daemon.rest.foldernotices import until_set
from pybuild.daemon.rest.hijack import frame
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.streams import kind_of

_LOOKS_S = 1.0
"""A monitor that was killed changes no file."""
_MANY_DIGITS = 18


async def logs(exchange: ApiExchange) -> web.StreamResponse:
    """Send the lines that are there, and with ``follow`` those to come."""
    query, container = exchange.query, await exchange.container()
    chosen = {name for name in ("stdout", "stderr") if query.flag(name)}
    if not chosen:
        raise ApiRefusal(400, "Bad parameters: you must choose at least one stream")
    if container.config.log.driver == "none":
        raise ApiRefusal(501, "configured logging driver does not support reading")
    tail, now = query.text("tail", "all"), time.time()
    chosen_tail = int(tail) if tail.isdecimal() and len(tail) < _MANY_DIGITS else None
    since, until = log_time(query.text("since"), now), log_time(query.text("until"), now)
    shown = ShownLines(
        chosen,
        tty=container.config.tty,
        timestamps=query.flag("timestamps"),
        details=details_of(container.config) if query.flag("details") else None,
    )
    host = exchange.host
    with container.home() as home, host.notices.watch(container.path) as changed:
        reader = LogReader(
            home,
            container,
            follow=query.flag("follow"),
            tail=chosen_tail,
            since=since,
            until=until,
        )
        try:
            response = await exchange.begin(kind_of(exchange.call.version, tty=shown.tty))
            while True:
                changed.clear()
                if (lines := await host.run(reader.read)) is None:
                    break
                if data := shown.packed(lines):
                    await response.write(data)
                elif not lines:
                    await until_set(changed, _LOOKS_S)
        finally:
            reader.close()
    await response.write_eof()
    return response


class ShownLines:
    """Lines of a log as clients get them.

    Args:
        chosen: the names of the streams.
        details: the text in front of each line; None: there is none.
    """

    def __init__(
        self, chosen: set[str], *, tty: bool, timestamps: bool, details: str | None
    ) -> None:
        self._chosen = chosen
        self.tty = tty
        self._timestamps = timestamps
        self._front = "" if details is None else f"{details} "

    def packed(self, lines: Iterable[LogLine]) -> bytes:
        """Return the bytes of lines, in frames where there is no terminal."""
        data = bytearray()
        for line in lines:
            if line.stream not in self._chosen:
                continue
            text = self._front + line.text
            text = f"{line.time} {text}" if self._timestamps else text
            piece = text.encode("utf-8", "surrogateescape")
            data += piece if self.tty else frame(1 if line.stream == "stdout" else 2, piece)
        return bytes(data)


STREAMS: Mapping[str, Handler] = {"GET /containers/{name}/logs": logs}
