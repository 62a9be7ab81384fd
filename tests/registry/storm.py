"""Pushes and pulls through a proxy that fails all the time: ``python -m tests.registry.storm --rounds 100``.

One request in five is reset: at once, in the middle of what is sent, or of what is answered. One in ten
is answered by 429 or some 5xx. The client has its real limits; only its waits are a hundred times
shorter. A round is an image of three layers pushed and pulled again, every byte compared.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.pull import pull_image
from pybuild.registry.client.push import push_image
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image
from tests.registry.servers import serve
from tests.services import start_registry

RESETS = 0.2
REFUSALS = 0.1
_STATUSES = (429, 500, 502, 503, 504)
_FASTER = 100


@dataclass(slots=True)
class Tally:
    """The outcome of a run.

    Attributes:
        happened: what the proxy did to how many requests.
        failures: rounds that did not succeed, with the error.
    """

    rounds: int = 0
    happened: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        requests = sum(self.happened.values())
        resets = sum(n for what, n in self.happened.items() if what.startswith("reset"))
        lines = [
            f"{self.rounds - len(self.failures)} of {self.rounds} rounds succeeded, bytes exact",
            f"{requests} requests, {resets} reset ({100 * resets / max(1, requests):.1f} %)",
            ", ".join(f"{what}: {count}" for what, count in sorted(self.happened.items())),
        ]
        return "\n".join(lines + self.failures)


@asynccontextmanager
async def storm_before(
    target: str, rng: random.Random, happened: Counter[str]
) -> AsyncGenerator[str, None]:
    """Stand before the registry at *target*; yields the proxy's ``host:port``."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handler(request: web.Request) -> web.StreamResponse:
            dice, size = rng.random(), int(2 ** rng.uniform(0, 21))
            if dice < RESETS / 3:
                happened["reset at once"] += 1
                return _reset(request)
            if dice < RESETS * 2 / 3:
                happened["reset in the request"] += 1
                async for piece in request.content.iter_chunked(16384):
                    size -= len(piece)
                    if size <= 0:
                        break
                return _reset(request)
            if RESETS <= dice < RESETS + REFUSALS:
                status = rng.choice(_STATUSES)
                happened[str(status)] += 1
                await request.read()
                return web.Response(status=status, headers={"Retry-After": "0"})
            is_cut = dice < RESETS
            happened["reset in the answer" if is_cut else "passed on"] += 1
            return await _pass_on(session, request, target, size if is_cut else 1 << 60)

        async with serve(handler) as name:
            yield name


async def _pass_on(
    session: aiohttp.ClientSession, request: web.Request, target: str, most: int
) -> web.StreamResponse:
    """Let the registry answer; after *most* bytes of the answer, reset."""
    drop = ("Host", "Content-Length", "Transfer-Encoding", "Connection", "Date")
    async with session.request(
        request.method,
        f"http://{target}{request.raw_path}",
        headers={key: value for key, value in request.headers.items() if key not in drop},
        data=await request.read(),
        allow_redirects=False,
    ) as answer:
        body = await answer.read()
        kept = {key: value for key, value in answer.headers.items() if key not in drop[2:]}
        if most < 1 << 60 and len(body) <= most:  # it did its work, and nobody hears of it
            return _reset(request)
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(body[:most])
        if most < 1 << 60:
            return _reset(request)
        await response.write_eof()
        return response


def _reset(request: web.Request) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        plain: socket.socket = transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def run(rounds: int, seed: int, target: str, top: Path) -> Tally:
    """Make so many rounds against the registry at *target*, in an empty directory."""
    rng = random.Random(seed)
    tally = Tally()
    async with storm_before(target, rng, tally.happened) as proxy:
        for number in range(rounds):
            tally.rounds += 1
            try:
                await _round(proxy, number, rng, top / str(number))
            except (HttpFault, AssertionError) as error:
                tally.failures.append(f"round {number}: {error}")
    return tally


async def _round(proxy: str, number: int, rng: random.Random, top: Path) -> None:
    here, there = DirectoryBlobs(top / "here"), DirectoryBlobs(top / "there")
    sizes = (rng.randrange(1, 2000), rng.randrange(100_000), rng.randrange(500_000, 2_000_000))
    image = make_image(here, *(rng.randbytes(size) for size in sizes))
    reference = Reference.parse(f"{proxy}/storm/r{number}:1")
    for pushes in (True, False):
        async with Client(
            Hosts({proxy: {"http": True}}),
            clock=WallClock(),
            chunk_bytes=300_000 if number % 2 else 0,
            sleep=lambda seconds: asyncio.sleep(seconds / _FASTER),
        ) as client:
            if pushes:
                await push_image(client, here, image, [reference])
            else:
                await pull_image(client, there, reference, LINUX_AMD64, layers=True)
    assert there.leftovers() == [], "a half-written blob is left"
    for path in here.root.iterdir():
        assert (there.root / path.name).read_bytes() == path.read_bytes(), path.name


def main() -> int:
    """Run from the command line, against Debian's docker-registry."""
    parser = argparse.ArgumentParser(description="push and pull through a storm")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storm-") as top:
        began = time.monotonic()
        with start_registry(Path(top) / "registry") as registry:
            tally = asyncio.run(
                run(options.rounds, options.seed, registry.host, Path(top) / "rounds")
            )
        sys.stdout.write(f"{tally}\n{time.monotonic() - began:.0f} s\n")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
