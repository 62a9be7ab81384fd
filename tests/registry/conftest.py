"""A registry for the whole room, fresh blobs and a quick client for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pybuild.model.descriptor import Descriptor
from pybuild.model.reference import Reference
from pybuild.registry.client.client import Client
from pybuild.registry.client.credentials import Credentials
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.push import push_image
from pybuild.registry.client.transport import TransferLimits
from tests.needs import need
from tests.registry.fakes import DirectoryBlobs, WallClock, make_image
from tests.services import RegistryProcess, start_registry

T = TypeVar("T")

QUICK = TransferLimits(backoff_s=0.01, backoff_most_s=0.02, connect_s=5.0, idle_s=5.0)
BIG = bytes(range(256)) * 8000  # 2 MB
_names = itertools.count(1)


def client(
    hosts: Hosts | None = None,
    credentials: Credentials | None = None,
    *,
    limits: TransferLimits = QUICK,
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


def seed_image(registry: RegistryProcess, path: str, blobs: DirectoryBlobs) -> Descriptor:
    """Push an image of two layers, a small and a big one, to *path*."""
    image = make_image(blobs, b"small", BIG)

    async def work() -> None:
        async with client() as c:
            await push_image(c, blobs, image, [Reference.parse(f"{registry.host}/{path}")])

    run(work())
    return image


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """An anonymous registry that all tests share; use `repository` for a name of your own."""
    need("docker-registry")
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
