"""The output of containers, from their logs [EP-26, CTR-76]."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from functools import partial
from itertools import islice

from aiohttp import web

from pybuild.containers.container import Container
from pybuild.containers.logreading import LogLine, log_time, read_log
from pybuild.daemon.rest.exchange import ApiExchange, Handler
from pybuild.daemon.rest.hijack import frame
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.streams import kind_of
from pybuild.model.errors import UserError

_AT_ONCE = 256
_MOST_WAITING = 4
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
    reading = LogReading(
        container,
        follow=query.flag("follow"),
        tail=int(tail) if tail.isdecimal() and len(tail) < _MANY_DIGITS else None,
        since=log_time(query.text("since"), now),
        until=log_time(query.text("until"), now),
    )
    tty = container.config.tty
    timestamps, details = query.flag("timestamps"), query.flag("details")
    try:
        response = await exchange.begin(kind_of(exchange.call.version, tty=tty))
        while lines := await reading.next():
            data = bytearray()
            for line in lines:
                if line.stream not in chosen:
                    continue
                text = f"{' ' if details else ''}{line.text}"
                text = f"{line.time} {text}" if timestamps else text
                piece = text.encode("utf-8", "surrogateescape")
                data += piece if tty else frame(1 if line.stream == "stdout" else 2, piece)
            if data:
                await response.write(bytes(data))
        await response.write_eof()
    finally:
        reading.stop()
    return response


class LogReading:
    """The lines of a log, read in a thread of its own, which never waits for the event loop's others."""

    def __init__(
        self, container: Container, *, follow: bool, tail: int | None, since: str, until: str
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[list[LogLine]] = asyncio.Queue()
        self._room = threading.Semaphore(_MOST_WAITING)
        self._is_stopped = threading.Event()
        self._read = partial(
            read_log,
            container,
            follow=follow,
            tail=tail,
            since=since,
            until=until,
            stopped=self._is_stopped.is_set,
        )
        self._follow = follow
        threading.Thread(target=self._work, name="log", daemon=True).start()

    async def next(self) -> list[LogLine]:
        """Return some lines; none: there are no more."""
        lines = await self._lines.get()
        self._room.release()
        return lines

    def stop(self) -> None:
        """Read no more."""
        self._is_stopped.set()
        self._room.release()

    def _work(self) -> None:
        try:
            lines = self._read()
            # Of a log that grows each line goes at once.
            while some := list(islice(lines, 1 if self._follow else _AT_ONCE)):
                self._room.acquire()
                if self._is_stopped.is_set():
                    return
                self._hand_over(some)
        except (OSError, UserError):
            pass  # it was removed
        finally:
            self._hand_over([])

    def _hand_over(self, lines: list[LogLine]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, lines)
        except RuntimeError:
            self._is_stopped.set()  # the loop has ended


HANDLERS: Mapping[str, Handler] = {"GET /containers/{name}/logs": logs}
