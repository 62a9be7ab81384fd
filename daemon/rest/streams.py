"""Clients that are attached to containers [EP-25, ENG-30…36]."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any

from aiohttp import web

from pybuild.containers.container import Container
from pybuild.containers.detaching import DEFAULT, DetachKeys, parse_keys
from pybuild.containers.logreading import read_log
from pybuild.containers.order import StreamAttachment
from pybuild.containers.state import PAUSED, RESTARTING
from pybuild.daemon.rest.exchange import ApiExchange, Handler, nothing
from pybuild.daemon.rest.hijack import MULTIPLEXED, RAW, ClientStream, Taken, frame, hijack
from pybuild.daemon.rest.lines import MonitorLine
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.daemon.rest.routes import Version
from pybuild.daemon.rest.websockets import WebSocketStream, open_websocket
from pybuild.model.border import packed
from pybuild.model.errors import UsageError, UserError

_STREAMS = {"stdout": 1, "stderr": 2}
_NAMES = ("stdin", *_STREAMS)
_BOTH = frozenset((1, 2))
_AT_ONCE = 256


def kind_of(version: Version, *, tty: bool) -> str:
    """Return the content type of a stream of output [ENG-31]."""
    return RAW if tty or version < (1, 42) else MULTIPLEXED


def keys_of(text: str) -> bytes:
    """Return the keys that detach.

    Raises:
        ApiRefusal: there are no such keys.
    """
    try:
        return parse_keys(text or DEFAULT)
    except UsageError:
        raise ApiRefusal(400, f"Invalid detach keys ({text[:100]}) provided") from None


async def attach(exchange: ApiExchange) -> web.StreamResponse:
    """Attach the client to a container that runs, or that is to be started."""

    async def open_raw(tty: bool) -> ClientStream:
        kind = kind_of(exchange.call.version, tty=tty)
        return await hijack(exchange.request, kind, exchange.signature)

    chosen = frozenset(name for name in _NAMES if exchange.query.flag(name))
    await _attach(exchange, chosen, open_raw, is_framed=True)
    return Taken()


async def attach_by_websocket(exchange: ApiExchange) -> web.StreamResponse:
    """Attach the client as `attach` does, by a websocket."""
    opened: list[WebSocketStream] = []

    async def open_socket(tty: bool) -> ClientStream:
        opened.append(await open_websocket(exchange.request))
        return opened[0]

    chosen = frozenset(name for name in _NAMES if exchange.query.flag(name))
    if exchange.call.version < (1, 42):
        chosen = frozenset(_NAMES)
    await _attach(exchange, chosen, open_socket, is_framed=False)
    return opened[0].response


async def _attach(
    exchange: ApiExchange,
    chosen: frozenset[str],
    opening: Callable[[bool], Awaitable[ClientStream]],
    *,
    is_framed: bool,
) -> None:
    """Join a container and a client until one of them ends.

    Args:
        chosen: the names of the streams.
        opening: takes the client's connection over; whether there is a terminal is its argument.
        is_framed: output without a terminal goes in frames.
    """
    query, host = exchange.query, exchange.host
    keys = keys_of(query.text("detachKeys"))
    container = await exchange.container()
    config = container.config
    is_plain = config.tty or not is_framed
    state = await host.run(container.state)
    if state.status == PAUSED:
        raise ApiRefusal(
            409, f"Container {config.id} is paused, unpause the container before attach"
        )
    if state.status == RESTARTING:
        raise ApiRefusal(
            409, f"Container {config.id} is restarting, wait until the container is running"
        )
    attachment = StreamAttachment(
        stdin="stdin" in chosen and config.stdin,
        stdout="stdout" in chosen,
        stderr="stderr" in chosen,
        waits=not state.lives,
    )
    line: MonitorLine | None = None
    if query.flag("stream"):
        if state.lives:
            line = await _living(exchange, container, attachment)
        if line is None:
            line = host.waiting.wait(config.id, attachment)
    try:
        stream = await opening(config.tty)
        try:
            if query.flag("logs"):
                await _send_log(exchange, container, stream, attachment, is_plain=is_plain)
            if line is not None:
                left = await follow(
                    line,
                    stream,
                    reads=attachment.stdin,
                    tty=is_plain,
                    keys=keys if config.tty else b"",
                    lasts=not config.stdin_once,
                )
                if left:
                    await host.run(container.note, "detach")
        except ConnectionError:
            pass  # the client has gone
        finally:
            await stream.close()
    finally:
        if line is not None:
            host.waiting.leave(config.id, line)


async def _living(
    exchange: ApiExchange, container: Container, attachment: StreamAttachment
) -> MonitorLine | None:
    own = await exchange.host.run(container.connect)
    if own is None:
        return None
    line = MonitorLine(own)
    await line.say("attach", packed(attachment))
    message = await line.hear()
    if message is None or message[0] != "attached":
        line.close()
        return None
    return line


async def _send_log(
    exchange: ApiExchange,
    container: Container,
    stream: ClientStream,
    attachment: StreamAttachment,
    *,
    is_plain: bool,
) -> None:
    lines = iter(read_log(container, follow=False, tail=None))
    while some := await exchange.host.run(lambda: list(islice(lines, _AT_ONCE))):
        for one in some:
            if attachment.stdout if one.stream == "stdout" else attachment.stderr:
                data = one.text.encode("utf-8", "surrogateescape")
                await stream.send(data if is_plain else frame(_STREAMS[one.stream], data))


async def follow(
    line: MonitorLine,
    stream: ClientStream,
    *,
    reads: bool,
    tty: bool,
    keys: bytes,
    said: bool = False,
    numbers: frozenset[int] = _BOTH,
    lasts: bool = False,
) -> bool:
    """Join a line and a client until the process has ended or the client has gone; return whether it detached.

    Args:
        reads: the client's input is the process's.
        tty: what comes goes to the client as it is, in no frames.
        keys: detach when they are typed; none where nothing does.
        said: a process that could not be executed is told of in the stream.
        numbers: the streams of output that the client gets.
        lasts: the process reads no end with the client's input, which ends the stream alone.

    Raises:
        ConnectionError: the client has gone.
    """
    output = asyncio.create_task(_output(line, stream, tty=tty, said=said, numbers=numbers))
    typing = asyncio.create_task(_input(line, stream, reads=reads, keys=keys))
    gone = asyncio.create_task(stream.gone())
    tasks: set[asyncio.Task[Any]] = {output, typing, gone}
    try:
        while True:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if output in done:
                output.result()
            if output in done or gone in done:
                return False
            if typing.result():
                return True
            if lasts and reads:
                return False
            tasks.discard(typing)
    finally:
        for task in (output, typing, gone):
            task.cancel()
        await asyncio.gather(output, typing, gone, return_exceptions=True)


async def _output(
    line: MonitorLine, stream: ClientStream, *, tty: bool, said: bool, numbers: frozenset[int]
) -> None:
    while (message := await line.hear()) is not None:
        match message:
            case ("output", int() as number, bytes() as data):
                if tty or number in numbers:
                    await stream.send(data if tty else frame(number, data))
            case ("unexecuted", int(), str() as text) if said:
                await _tell(stream, text, tty=tty)
                return
            case ("fault", _, str() as text, *_) if said:
                await _tell(stream, text, tty=tty)
                return
            case ("ended" | "unexecuted" | "fault" | "done", *_):
                return
            case _:
                continue


async def _tell(stream: ClientStream, text: str, *, tty: bool) -> None:
    data = f"{text}\r\n".encode()
    await stream.send(data if tty else frame(1, data))


async def _input(line: MonitorLine, stream: ClientStream, *, reads: bool, keys: bytes) -> bool:
    """Hand input on to its end; return whether the keys that detach were typed."""
    detach = DetachKeys(keys)
    while data := await stream.read():
        if not reads:
            continue
        data, left = detach.feed(data)
        if data:
            await line.type(data)
        if left:
            return True
    if reads:
        await line.say("eof")
    return False


async def resize(exchange: ApiExchange) -> web.StreamResponse:
    """Give a container's terminal another size."""
    container = await exchange.container()
    rows, columns = size_of(exchange)
    # Answered when it is done: what is typed next is written to a terminal of that size.
    try:
        await exchange.host.run(container.ask, "size", rows, columns)
    except UserError as error:
        raise ApiRefusal(409, f"Container {container.config.id} is not running") from error
    return nothing(200)


def size_of(exchange: ApiExchange) -> tuple[int, int]:
    """Return rows and columns.

    Raises:
        ApiRefusal: they are none.
    """
    return _length(exchange, "h", "height"), _length(exchange, "w", "width")


def _length(exchange: ApiExchange, name: str, words: str) -> int:
    text = exchange.query.text(name)
    problem = "" if re.fullmatch(r"-?[0-9]+", text) else "invalid syntax"
    if not problem and (len(text) > 5 or not 0 <= int(text) < 1 << 16):
        problem = "value out of range"
    if problem:
        raise ApiRefusal(400, f'invalid resize {words} "{text[:100]}": {problem}')
    return int(text)


STREAMS: Mapping[str, Handler] = {
    "POST /containers/{name}/attach": attach,
    "GET /containers/{name}/attach/ws": attach_by_websocket,
}
HANDLERS: Mapping[str, Handler] = {"POST /containers/{name}/resize": resize}
