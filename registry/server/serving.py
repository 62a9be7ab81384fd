"""Listening, and ending without losing anything."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from pybuild.model.errors import EnvironmentFault, UsageError
from pybuild.registry.server.app import Registry
from pybuild.registry.server.hosting import Hosting

_BACKLOG = 512
_KEEP_ALIVE_S = 75.0


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``.

    Raises:
        UsageError: it is not one.
    """
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f'address "{text}": expected HOST:PORT')
    return host.strip("[]"), int(port)


@asynccontextmanager
async def listening(
    hosting: Hosting, addresses: Sequence[str], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[list[str]]:
    """Serve during the block; gives the addresses, with the ports that were really taken.

    At the end of the block nobody new is let in, and who is there may finish.

    Raises:
        UsageError: an address that cannot be. EnvironmentFault: one that cannot be had.
    """
    runner = web.AppRunner(
        Registry(hosting).application(),
        access_log=None,
        auto_decompress=False,  # a blob is the bytes that were sent
        keepalive_timeout=_KEEP_ALIVE_S,
        shutdown_timeout=hosting.settings.grace_s,
    )
    await runner.setup()
    try:
        for address in addresses:
            host, port = parse_address(address)
            try:
                await web.TCPSite(
                    runner, host or None, port, ssl_context=tls, backlog=_BACKLOG
                ).start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise EnvironmentFault(f"cannot listen on {address}: {reason}") from error
        yield [_shown(name) for name in runner.addresses]
    finally:
        await runner.cleanup()


async def until_told() -> None:
    """Wait for SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    try:
        await told.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _shown(name: tuple[object, ...]) -> str:
    host = str(name[0])
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"
