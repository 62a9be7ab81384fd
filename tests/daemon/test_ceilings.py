"""Directories and uploads of a client stay below the ceiling of its store: they are ended, and freed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any, cast

import pytest

from pybuild.cache.space.ceiling import keep_below
from pybuild.cache.store import Store
from pybuild.client.filesync import file_sync
from pybuild.daemon.session.filesync import LocalRequest
from pybuild.daemon.session.upload import adopt
from pybuild.model.errors import EnvironmentFault
from tests.daemon.filesyncrig import CONTEXT, rig
from tests.daemon.peers import open_store

pytestmark = pytest.mark.slow
CEILING = 24 << 20
PIECE = bytes(1 << 20)


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        keep_below(store, CEILING)
        yield store


@pytest.mark.parametrize("request_", [CONTEXT, LocalRequest(name="context", keep=False)])
def test_a_directory(store: Store, tmp_path: Path, request_: LocalRequest) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(32):
        (source / f"{number}").write_bytes(PIECE * 8)

    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            with pytest.raises(EnvironmentFault, match=r"ceiling of 25\.17MB"):
                await made.fetch(request_)
            for number in range(1, 32):
                (source / f"{number}").unlink()
            assert (await made.fetch(request_)).entries == 1

    asyncio.run(run())


def test_an_upload(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = 0

    async def pull(_session: Any, _id: str) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            await asyncio.sleep(0.001)  # other things happen meanwhile
            sent += 1
            yield PIECE

    monkeypatch.setattr("pybuild.daemon.session.upload.pull", pull)

    async def run() -> None:
        with pytest.raises(EnvironmentFault, match=r"ceiling of 25\.17MB"):
            await adopt(cast(Any, None), store, cast(Any, None), "id", "file")

    asyncio.run(run())
    assert sent < 10_000
    store.tmp.sweep()
    assert store.measure(store.tmp.path).size < CEILING
