"""A TCP proxy that misbehaves: by a plan, or at random from a seed; the number of faults is bounded.

It knows just enough HTTP to answer a request in the server's place.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reset:
    """Reset the connection as soon as it is made."""


@dataclass(frozen=True)
class CutAnswer:
    """Pass this many bytes of the server's answers on, then reset."""

    after_bytes: int


@dataclass(frozen=True)
class CutRequest:
    """Pass this many bytes of the client's requests on, then reset."""

    after_bytes: int


@dataclass(frozen=True)
class Say:
    """Answer the first request with *status* and close."""

    status: int
    headers: tuple[str, ...] = ("Retry-After: 0",)


Fault = Reset | CutAnswer | CutRequest | Say


@dataclass
class Chaos:
    """Faults of connections, in order; None, and everything after the end, just works."""

    plan: Iterator[Fault | None]
    happened: list[Fault] = field(default_factory=list[Fault])

    @classmethod
    def planned(cls, *faults: Fault | None) -> Chaos:
        return cls(iter(faults))

    @classmethod
    def seeded(cls, seed: int, most: int) -> Chaos:
        """*most* connections with faults, good ones between them; the same for the same seed.

        Good connections end as well, after some bytes: else one would serve everything.
        """
        return cls(_random_plan(random.Random(seed), most))


def _random_plan(dice: random.Random, most: int) -> Iterator[Fault | None]:
    for _ in range(most):
        kind = dice.randrange(6)
        size = int(2 ** dice.uniform(0, 19))
        yield (
            Reset(),
            CutAnswer(size),
            CutRequest(size),
            Say(503),
            Say(429, ("Retry-After: 0",)),
            None,
        )[kind]


@asynccontextmanager
async def chaos_before(target: str, chaos: Chaos) -> AsyncGenerator[str, None]:
    """Put *chaos* before the server at *target* (``host:port``); yields the proxy's own."""
    host, _, port = target.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _connection(reader, writer, host, int(port), chaos)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            _reset(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tuple(tasks), return_exceptions=True)
        await server.wait_closed()


async def _connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    chaos: Chaos,
) -> None:
    fault = next(chaos.plan, None)
    if fault is not None:
        chaos.happened.append(fault)
    answers = requests = 1 << 62
    match fault:
        case Reset():
            return
        case Say(status, headers):
            start = await reader.readexactly(1)
            if start == b"\x16":  # a TLS hello has no end that we would know
                return
            await reader.readuntil(b"\r\n\r\n")
            lines = [f"HTTP/1.1 {status} Chaos", "Content-Length: 0", "Connection: close", *headers]
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
            await writer.drain()
            writer.close()
            return
        case CutAnswer(after):
            answers = after
        case CutRequest(after):
            requests = after
        case None:
            pass
    there_reader, there_writer = await asyncio.open_connection(host, port)
    try:
        ways: Sequence[asyncio.Task[None]] = (
            asyncio.create_task(_pass_on(reader, there_writer, requests)),
            asyncio.create_task(_pass_on(there_reader, writer, answers)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
    finally:
        _reset(there_writer)


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int) -> None:
    while limit > 0:
        data = await source.read(min(65536, limit))
        if not data:
            return
        limit -= len(data)
        sink.write(data)
        await sink.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what a crashing middlebox does, and nothing lingers."""
    if writer.transport.is_closing():
        return
    plain: socket.socket | None = writer.get_extra_info("socket")
    if plain is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
