"""A registry for the whole room, fresh blobs and a quick client for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pybuild.registry.client import Client
from pybuild.registry.credentials import Credentials
from pybuild.registry.hosts import Hosts
from pybuild.registry.transport import Limits
from tests.registry.fakes import DirectoryBlobs, WallClock
from tests.services import RegistryProcess, has_registry, start_registry

T = TypeVar("T")

QUICK = Limits(backoff_s=0.01, backoff_most_s=0.02, connect_s=5.0, idle_s=5.0)
_names = itertools.count(1)


def client(
    hosts: Hosts | None = None,
    credentials: Credentials | None = None,
    *,
    limits: Limits = QUICK,
    chunk_bytes: int = 0,
    environ: dict[str, str] | None = None,
) -> Client:
    """A client that does not wait long."""
    return Client(
        hosts,
        credentials,
        clock=WallClock(),
        limits=limits,
        chunk_bytes=chunk_bytes,
        environ=environ,
    )


def run(work: Coroutine[Any, Any, T], limit_s: float = 20.0) -> T:
    """Run *work* on a new event loop; fail rather than hang."""

    async def limited() -> T:
        async with asyncio.timeout(limit_s):
            return await work

    return asyncio.run(limited())


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """An anonymous registry that all tests share; use `repository` for a name of your own."""
    if not has_registry():
        pytest.skip("docker-registry is not installed")
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def repository() -> str:
    """A repository path nobody else uses."""
    return f"test/r{next(_names)}"


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "blobs")


@pytest.fixture
def other_blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "other-blobs")
