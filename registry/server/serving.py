"""Listening, and ending without losing anything."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import ssl
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from aiohttp import web

from pybuild.cache.repositories.collect import free_unheld, unlink
from pybuild.model.errors import EnvironmentFault, PybuildError, UsageError
from pybuild.net.doorway import Admission, Doorway, listen_tcp
from pybuild.net.http1.tlsfiles import KeyPair
from pybuild.net.tls import server_context
from pybuild.registry.server.app import Registry
from pybuild.registry.server.connections import Answer, PatientServer
from pybuild.registry.server.foreign import ForeignIssuer, read_keys
from pybuild.registry.server.guard import Guard
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.htpasswd import Htpasswd
from pybuild.registry.server.settings import ClientLimits
from pybuild.registry.server.tokens import Issuer

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
async def listening(hosting: Hosting, addresses: Sequence[str]) -> AsyncGenerator[list[str]]:
    """Serve during the block; gives the addresses, with the ports that were really taken.

    At the end of the block nobody new is let in, and who is there may finish.

    Raises:
        UsageError: an address, a certificate or a password file that cannot be.
        EnvironmentFault: an address that cannot be had.
    """
    settings = hosting.settings
    pair = KeyPair(settings.cert, settings.key)
    tls = server_context(pair, settings.ca) if settings.cert else None
    registry = Registry(hosting, make_guard(hosting))
    async with AsyncExitStack() as stack:
        stack.enter_context(hosting.store.repositories.serving())
        collector = asyncio.create_task(collect_forever(hosting))
        stack.push_async_callback(_end, collector)
        if hosting.upstreams is not None:
            stack.push_async_callback(hosting.upstreams.close)
        taken = await stack.enter_async_context(_site(registry, registry.answer, addresses, tls))
        if settings.metrics:
            numbers = _site(registry, registry.metrics, [settings.metrics])
            await stack.enter_async_context(numbers)
        yield taken


@asynccontextmanager
async def _site(
    registry: Registry,
    answer: Answer,
    addresses: Sequence[str],
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[list[str]]:
    settings = registry.hosting.settings
    server = PatientServer(answer, keep_alive_s=_KEEP_ALIVE_S)
    runner = web.ServerRunner(server, shutdown_timeout=settings.grace_s)
    await runner.setup()
    doors: list[Doorway] = []
    names: list[str] = []
    try:
        for address in addresses:
            host, port = parse_address(address)
            try:
                for own in await listen_tcp(host or None, port, _BACKLOG):
                    names.append(_shown(own.getsockname()))
                    doors.append(Doorway(server.visit, _admission(settings.limits), own, tls))
            except OSError as error:
                reason = error.strerror or str(error)
                raise EnvironmentFault(f"cannot listen on {address}: {reason}") from error
        yield names
        # aiohttp takes in no more bytes of bodies once it shuts down, so those come first.
        for door in doors:
            door.close()
        await registry.drain(settings.grace_s)
    finally:
        for door in doors:
            door.close()
        await runner.cleanup()


def _admission(limits: ClientLimits) -> Admission:
    """Leave descriptors for blobs: connections get a half of what the process may have."""
    most = limits.connections
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files // 2))
    return Admission(
        connections=most,
        machine=most - most // 4,  # so that one machine leaves room for others
        waiting=max(10, most // 10),
        begin_s=limits.idle_s,
        idle_s=2 * _KEEP_ALIVE_S,
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def make_guard(hosting: Hosting) -> Guard:
    """Return the guard of the server.

    Raises:
        UsageError: the file of passwords or keys cannot be.
    """
    settings = hosting.settings
    passwords = Htpasswd(settings.htpasswd) if settings.htpasswd else None
    issuer = Issuer(hosting.key, settings.service) if settings.tokens else None
    now = hosting.store.clock.now
    foreign = None
    if settings.issuer:
        keys = read_keys(settings.issuer_keys)
        foreign = ForeignIssuer(settings.issuer, keys, settings.issuer_url)
    return Guard(
        settings.access,
        passwords,
        issuer,
        settings.external_url,
        now,
        foreign,
        settings.service,
        settings.limits,
    )


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _shown(name: tuple[object, ...]) -> str:
    host = str(name[0])
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"


async def collect_forever(hosting: Hosting) -> None:
    """Collect every now and then; a failure is told and tried again the next time."""
    every = hosting.settings.collect_every_s
    while every:
        await asyncio.sleep(every)
        try:
            await asyncio.shield(asyncio.to_thread(collect, hosting))
        except (PybuildError, OSError) as error:
            sys.stderr.write(f"warning: cannot collect what nothing needs: {error}\n")


def collect(hosting: Hosting) -> bool:
    """Free what nothing needs, once; False if another process on the same store is at it [GC-4].

    Nothing that is being pushed is touched: uploads are locked files, a blob's link stays for the
    time of a push after it was pushed or asked for, and a blob between its name and its link is
    leased.
    """
    store, settings, counted = hosting.store, hosting.settings, hosting.metrics.collected
    path = os.path.join(store.root, "locks", "registry-collection")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        unlinked = unlink(store, settings.keeping)
        counted["manifests",] += unlinked.manifests
        counted["links",] += unlinked.blobs
        counted["uploads",] += hosting.spool.sweep(settings.limits.upload_kept_s)
        freed = free_unheld(store, settings.keeping.blobs)
        counted["blobs",] += freed.blobs
        counted["bytes",] += freed.size
        return True
    finally:
        os.close(fd)
