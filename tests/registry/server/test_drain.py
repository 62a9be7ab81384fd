"""A server that ends finishes what is under way, and one that has a bug goes on: in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.registry.client.client import Client
from pybuild.registry.server import app
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import QUICK, run
from tests.registry.fakes import WallClock
from tests.registry.server.serving import served

DATA = bytes(200_000)


async def refused(host: str) -> None:
    """Wait until nobody listens at *host*."""
    address, _, port = host.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(address, int(port))
        except ConnectionRefusedError:
            return
        writer.close()


def test_a_push_ends_before_its_server_does(tmp_path: Path) -> None:
    async def work() -> None:
        with Store.open(tmp_path, WallClock()) as store:
            async with (
                Client(clock=WallClock(), limits=QUICK) as client,
                aiohttp.ClientSession() as session,
                asyncio.TaskGroup() as group,
            ):
                hosting = Hosting(store, RegistrySettings(grace_s=20.0), client)
                async with listening(hosting, ["127.0.0.1:0"]) as [host]:

                    async def body() -> AsyncIterator[bytes]:
                        yield DATA[:1000]
                        await refused(host)
                        yield DATA[1000:]

                    async def push() -> int:
                        url = f"http://{host}/v2/a/blobs/uploads/?digest={Digest.of(DATA)}"
                        async with session.post(url, data=body()) as response:
                            return response.status

                    pushing = group.create_task(push())
                    while not hosting.metrics.in_flight:
                        await asyncio.sleep(0)
                assert pushing.done()
                assert pushing.result() == 201
            assert store.blobs.verify(Digest.of(DATA))

    run(work())


def test_a_bug_costs_one_request_and_is_told_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(method: str, path: str) -> None:
        raise ZeroDivisionError("by \x1b[31m nothing")

    async def work() -> None:
        async with served(tmp_path / "store") as one:
            with monkeypatch.context() as patched:
                patched.setattr(app, "understand", broken)
                answer = await one.ask("GET", "/v2/")
            assert (answer.status, answer.code) == (500, "UNSUPPORTED")
            assert (await one.ask("GET", "/v2/")).status == 200

    run(work())
    written = capsys.readouterr().err
    assert written.startswith("error: bug of the registry:\n| Traceback")
    assert "| ZeroDivisionError: by" in written and "in broken" in written
    assert "\x1b" not in written
