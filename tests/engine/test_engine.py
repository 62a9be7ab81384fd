"""The engine as it is opened once, and as each client of a server sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.registry.client import client as registry
from pybuild.registry.client.credentials import NoCredentials
from pybuild.registry.client.hosts import Hosts


class Resource:
    def __init__(self) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False


def test_a_clients_engine_closes_its_own_and_leaves_the_rest(tmp_path: Path) -> None:
    async def work() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            ours = engine.shared("bucket", Resource)
            nobody = NoCredentials()
            client = engine.for_client(nobody)
            theirs = client.shared("bucket", Resource)
            assert client.shared("bucket", Resource) is theirs is not ours
            assert client.credentials() is nobody
            assert engine.credentials() is not nobody
            await client.close()
            assert (theirs.is_open, ours.is_open) == (False, True)
            digest = engine.store.blobs.put(b"still open")
            assert engine.store.blobs.read(digest) == b"still open"
        assert not ours.is_open

    asyncio.run(work())


def test_a_client_of_its_own_trusts_some_hosts_blindly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake(Resource):
        """A registry client that keeps which hosts it knows."""

        def __init__(self, hosts: Hosts, *_others: object, **_options: object) -> None:
            super().__init__()
            self.hosts = hosts

    monkeypatch.setattr(registry, "Client", Fake)

    async def work() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            shared = cast(Fake, engine.client())
            async with engine.client_for(()) as usual:
                assert usual is engine.client()
            assert shared.is_open
            async with engine.client_for(("a.example", "b.example")) as client:
                own = cast(Fake, client)
                assert own is not shared and own.is_open
                trusted = {h: own.hosts.config(h).insecure for h in ("a.example", "b.example", "c")}
                assert trusted == {"a.example": True, "b.example": True, "c": False}
            assert not own.is_open
            assert not shared.hosts.config("a.example").insecure

    asyncio.run(work())
