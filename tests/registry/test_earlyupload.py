"""Blobs that are sent while they are written [OUT-12]."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.registry.client.growingupload import GrowingFile
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.samestore import STORE
from pybuild.registry.client.upload import Pushed
from tests.descriptors import none_left_open
from tests.registry.conftest import client, run
from tests.registry.fakes import DirectoryBlobs
from tests.registry.servers import serve
from tests.services import RegistryProcess

DATA = random.Random(3).randbytes(3_500_000)
BLOB = Descriptor(OCI_LAYER_GZIP, Digest.of(DATA), len(DATA))
CUTS = (0, 1, 1_200_000, 1_200_001, 3_000_000, len(DATA))


async def written(path: Path, file: GrowingFile) -> None:
    """Let *path* become `DATA` bit by bit; whoever reads it gets a turn after each."""
    with path.open("ab") as out:
        for start, end in itertools.pairwise(CUTS):
            out.write(DATA[start:end])
            out.flush()
            file.grown()
            await asyncio.sleep(0.01)
    file.complete(BLOB)


def sent_early(host: str, repository: str, path: Path) -> bool:
    """Send what will be `DATA` to a repository."""
    path.touch()

    async def work() -> bool:
        file = GrowingFile(str(path))
        try:
            async with client() as c, asyncio.TaskGroup() as group:
                target = Reference.parse(f"{host}/{repository}:1")
                sending = group.create_task(c.push_early(target, file))
                await written(path, file)
            return sending.result()
        finally:
            file.close()

    return run(work())


@pytest.mark.registry
def test_the_repository_has_the_blob_when_it_is_whole(
    registry: RegistryProcess, repository: str, tmp_path: Path, blobs: DirectoryBlobs
) -> None:
    assert sent_early(registry.host, repository, tmp_path / "blob")
    blobs.put(DATA)

    async def pushed() -> Pushed:
        async with client() as c:
            return await c.push_blob(
                Reference.parse(f"{registry.host}/{repository}:1"), BLOB, blobs
            )

    assert run(pushed()) is Pushed.PRESENT


@pytest.mark.registry
def test_what_is_there_already_is_not_sent_to_its_end(
    registry: RegistryProcess, repository: str, tmp_path: Path
) -> None:
    assert sent_early(registry.host, repository, tmp_path / "one")
    assert sent_early(registry.host, repository, tmp_path / "two")
    (uploads,) = registry.root.rglob(f"{repository}/_uploads")
    assert list(uploads.rglob("data")) == []  # it forgets to remove the directory


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _refuses(request: web.Request) -> web.StreamResponse:
    return web.Response(status=405)


async def _hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _has_another(request: web.Request) -> web.StreamResponse:
    await request.read()
    return web.Response(status=202, headers={"Location": "/upload"})


@pytest.mark.parametrize(
    ("patch", "put"), [(_refuses, 201), (_hangs_up, 201), (_has_another, 400), (_has_another, 500)]
)
def test_a_server_that_cannot_do_it_fails_nothing(tmp_path: Path, patch: Answer, put: int) -> None:
    """The blob is pushed as others are, and whatever is wrong is told then."""

    async def handle(request: web.Request) -> web.StreamResponse:
        match request.method:
            case "POST":
                return web.Response(status=202, headers={"Location": "/upload"})
            case "PATCH":
                return await patch(request)
            case "PUT":
                return web.Response(status=put)
            case _:
                return web.Response(status=404)

    async def work() -> bool:
        path = tmp_path / "blob"
        path.touch()
        file = GrowingFile(str(path))
        async with serve(handle) as host, client(Hosts().insecure(host)) as c:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(c.push_early(Reference.parse(f"{host}/a:1"), file))
                await written(path, file)
            file.close()
            return sending.result()

    assert not run(work())


def test_a_server_on_a_store_of_ours_is_sent_nothing(tmp_path: Path) -> None:
    """It may just link the blob."""
    asked: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        return web.Response(status=202, headers={"Location": "/upload", STORE: "abc"})

    async def work() -> bool:
        async with serve(handle) as host, client(Hosts().insecure(host)) as c:
            file = GrowingFile(os.devnull)
            try:
                return await c.push_early(Reference.parse(f"{host}/a:1"), file)
            finally:
                file.close()

    assert not run(work())
    assert asked == ["POST", "DELETE"]


@pytest.mark.registry
def test_a_build_that_fails_meanwhile_leaves_nothing_open(
    registry: RegistryProcess, repository: str, tmp_path: Path
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DATA)

    async def work() -> None:
        file = GrowingFile(str(path))
        async with client() as c:
            target = Reference.parse(f"{registry.host}/{repository}:1")
            sending = asyncio.create_task(c.push_early(target, file))
            await asyncio.sleep(0.1)
            assert not sending.done()
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()
        file.close()

    with none_left_open():
        run(work())


def test_a_body_reads_no_other_file_once_its_own_is_closed(tmp_path: Path) -> None:
    """A request that failed goes on reading for a moment, and numbers of files are used again."""
    (tmp_path / "ours").write_bytes(b"ours")
    (tmp_path / "other").write_bytes(b"ours, and a secret")

    async def work() -> None:
        file = GrowingFile(str(tmp_path / "ours"))
        body = file.read(None)
        assert await anext(body) == b"ours"
        file.close()
        other = os.open(tmp_path / "other", os.O_RDONLY)
        assert [data async for data in body] == []
        os.close(other)
        file.close()

    run(work())


def test_who_waits_for_more_of_a_file_does_not_ask_for_it_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"begin")
    reads: list[int] = []
    pread = os.pread

    def counted(fd: int, size: int, offset: int) -> bytes:
        reads.append(offset)
        return pread(fd, size, offset)

    async def work() -> None:
        file = GrowingFile(str(path))
        monkeypatch.setattr("pybuild.registry.client.growingupload.os.pread", counted)
        pieces: list[bytes] = []

        async def read() -> None:
            async for piece in file.read(None):
                pieces.append(piece)

        reading = asyncio.create_task(read())
        while len(reads) < 2:
            await asyncio.sleep(0)
        for _ in range(20):  # as many turns of the loop and of its threads
            await asyncio.to_thread(int)
        assert reads == [0, 5]
        with path.open("ab") as out:
            out.write(b" end")
        file.complete(Descriptor(OCI_LAYER_GZIP, Digest.of(b"begin end"), 9))
        await reading
        assert pieces == [b"begin", b" end"]
        file.close()

    run(work())
