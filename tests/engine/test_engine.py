"""The engine as it is opened once, and as each client of a server sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.registry.client.credentials import NoCredentials


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
