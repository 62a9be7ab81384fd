"""Asks registries on behalf of a command: with the configuration's hosts, and logins as docker keeps them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pybuild.commandline.parser import Parsed
from pybuild.engine.host import SystemClock
from pybuild.engine.paths import certificate_directories
from pybuild.engine.settings import load_settings
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import Credentials, DockerCredentials
from pybuild.registry.client.hosts import Hosts

T = TypeVar("T")


def with_client(
    parsed: Parsed,
    work: Callable[[Client], Awaitable[T]],
    credentials: Credentials | None = None,
) -> T:
    """Run *work* in an event loop of its own, with a client that is closed after it."""
    from pybuild.engine.interruptible import run_interruptible

    settings = load_settings(parsed.one("config"), parsed.one("root"))

    async def run() -> T:
        client = Client(
            Hosts(settings.registries, certificate_directories=certificate_directories()),
            credentials or DockerCredentials(os.environ),
            clock=SystemClock(),
            environ=os.environ,
        )
        async with client:
            return await work(client)

    return run_interruptible(run())
