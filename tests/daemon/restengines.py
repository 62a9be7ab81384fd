"""Docker's API over a store with a busybox, served in a thread, as a client of it asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from pybuild.client.docker.places import EnginePlace
from pybuild.client.docker.requests import Requests
from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.exchange import RestHost
from pybuild.daemon.rest.serving import RestServer
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from tests.containers.busyboxes import BusyboxContainers
from tests.executor.sandbox_helpers import skip_unless_possible


@contextmanager
def rest_engine(folder: Path) -> Generator[tuple[Requests, BusyboxContainers]]:
    """Serve the store below *folder*; yield what asks it, and its containers, none of which is left."""
    skip_unless_possible()
    path, begun = str(folder / "s"), threading.Event()
    made: list[BusyboxContainers] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        async with Engine(Settings(root=str(folder / "store"))) as engine:
            host = RestHost(engine)
            server = RestServer(RestApi(host).answer, keep_alive_s=60)
            runner = web.ServerRunner(server)
            await runner.setup()
            await web.UnixSite(runner, path).start()
            made.append(BusyboxContainers(engine.store))
            ends.append((asyncio.get_running_loop(), asyncio.Event()))
            begun.set()
            try:
                await ends[0][1].wait()
            finally:
                await runner.cleanup()
                host.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert begun.wait(60)
    try:
        yield Requests(EnginePlace(url=f"unix://{path}")), made[0]
    finally:
        for one in made[0].list():
            made[0].remove(one, force=True)
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
