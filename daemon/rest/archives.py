"""Files out of containers and into them, as tars [EP-28, CTR-85…88]."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pybuild.buildkit.fsutil.gomode import to_go
from pybuild.containers.container import Container
from pybuild.containers.log import moment
from pybuild.containers.trees import tree_of
from pybuild.daemon.rest.decompressing import decompressed
from pybuild.daemon.rest.exchange import ApiExchange, Handler, answer, nothing
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.executor.files.values import ExportTree
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.image.layer.writing import write_all
from pybuild.model.errors import PybuildError

if TYPE_CHECKING:
    from pybuild.containers import treejobs
    from pybuild.executor.files import export as export_jobs
else:
    treejobs = WorkerModule("pybuild.containers.treejobs")
    export_jobs = WorkerModule("pybuild.executor.files.export")

_PIECE = 1 << 16
_TAR = "application/x-tar"
_KINDS = {"C": 0, "A": 1, "D": 2}


@asynccontextmanager
async def _tree(
    exchange: ApiExchange, container: Container, *, bare: bool = False
) -> AsyncGenerator[tuple[treejobs.ContainerTree, list[int]]]:
    """The tree that `tree_of` gives, in a thread: a container whose monitor was killed gets another one first."""
    host = exchange.host
    own = exchange.call.name
    known = tree_of(host.store, container, host.engine.mount_dir(), bare=bare, name=own)
    tree = await host.run(known.__enter__)
    try:
        yield tree
    finally:
        await host.run(known.__exit__, None, None, None)


async def head(exchange: ApiExchange) -> web.StreamResponse:
    """Describe a path of a container in a header."""
    return web.Response(headers={"X-Docker-Container-Path-Stat": await _stat(exchange)})


async def _stat(exchange: ApiExchange) -> str:
    container, path = await exchange.container(), _path(exchange)
    engine = exchange.host.engine
    async with _tree(exchange, container) as (tree, fds):
        known = await engine.workers.call(job(treejobs.look, tree, path), fds=fds)
    shown = {
        "name": known.name,
        "size": known.size,
        "mode": to_go(known.mode),
        "mtime": moment(known.mtime_ns),
        "linkTarget": known.target,
    }
    return base64.b64encode(json.dumps(shown).encode()).decode()


def _path(exchange: ApiExchange) -> str:
    path = exchange.query.text("path")
    if not path:
        raise ApiRefusal(400, "bad parameter: path cannot be empty")
    return path if path.startswith("/") else f"/{path}"


async def get(exchange: ApiExchange) -> web.StreamResponse:
    """Send a path of a container as a tar."""
    described = await _stat(exchange)
    container, path = await exchange.container(), _path(exchange)
    headers = {"X-Docker-Container-Path-Stat": described}
    await exchange.host.run(container.note, "archive-path")  # who has the last byte may look for it
    async with _tree(exchange, container) as (tree, fds):
        work = job(treejobs.read, tree, path, follow=False)
        return await send_work(exchange, work, fds, headers)


async def export(exchange: ApiExchange) -> web.StreamResponse:
    """Send the whole file tree of a container, without its volumes, as a tar."""
    container, engine = await exchange.container(), exchange.host.engine
    await exchange.host.run(container.note, "export")
    async with _tree(exchange, container, bare=True) as (tree, _):
        whole = ExportTree((*tree.lowers, tree.upper), tree.mount_dir, await engine.userxattr())
        return await send_work(exchange, job(export_jobs.tar_job, [whole]), [], {})


async def send_work(
    exchange: ApiExchange, work: Job[Any], fds: list[int], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send what a worker writes to its first descriptor; a fault before the first byte is the answer."""
    async with _pipe(exchange, work, fds, reads=True) as (mine, there):
        piece = await exchange.host.run(os.read, mine, _PIECE)
        if not piece:
            await there
        response = await exchange.begin(_TAR, headers)
        while piece:
            await response.write(piece)
            piece = await exchange.host.run(os.read, mine, _PIECE)
        await there
    await response.write_eof()
    return response


@asynccontextmanager
async def _pipe(
    exchange: ApiExchange, work: Job[Any], fds: list[int], *, reads: bool
) -> AsyncGenerator[tuple[int, asyncio.Task[None]]]:
    """Have a worker do its half for the block, joined to ours by a pipe."""
    read_end, write_end = os.pipe()
    mine, theirs = (read_end, write_end) if reads else (write_end, read_end)
    begun = asyncio.Event()

    async def call() -> None:
        try:
            begun.set()
            await exchange.host.engine.workers.call(work, fds=[theirs, *fds])
        finally:
            os.close(theirs)

    there = asyncio.create_task(call())
    await begun.wait()
    try:
        yield mine, there
    finally:
        os.close(mine)
        with suppress(PybuildError, asyncio.CancelledError):
            await there


async def put(exchange: ApiExchange) -> web.StreamResponse:
    """Put a tar into a directory of a container [CTR-86]."""
    container, path = await exchange.container(), _path(exchange)
    keeps = exchange.query.flag("noOverwriteDirNonDir")
    user = container.config.user if exchange.query.flag("copyUIDGID") else ""
    _refuse_readonly(container, path)
    async with _tree(exchange, container) as (tree, fds):
        work = job(treejobs.unpack, tree, path, keeps_kinds=keeps, user=user)
        async with _pipe(exchange, work, fds, reads=False) as (mine, there):
            try:
                async for piece in decompressed(exchange.pieces(), exchange.host.run):
                    await exchange.host.run(write_all, mine, piece)
            except BrokenPipeError:
                pass  # the worker says why
            except (OSError, ValueError) as error:
                there.cancel()
                raise ApiRefusal(400, f"the archive cannot be read: {error}") from error
            _end(mine)
            await there
    await exchange.host.run(container.note, "extract-to-dir")
    return nothing(200)


def _refuse_readonly(container: Container, path: str) -> None:
    mounts = [one for one in container.config.mounts if f"{path}/".startswith(f"{one.target}/")]
    if any(one.readonly for one in mounts):
        raise ApiRefusal(400, "mounted volume is marked read-only")
    if container.config.readonly and not mounts:
        raise ApiRefusal(400, "container rootfs is marked read-only")


def _end(fd: int) -> None:
    """Let the other side of a pipe read the end, and keep the descriptor."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, fd, inheritable=False)
    os.close(nowhere)


async def changes(exchange: ApiExchange) -> web.StreamResponse:
    """List what a container changed."""
    container, engine = await exchange.container(), exchange.host.engine
    async with _tree(exchange, container, bare=True) as (tree, _):
        listed = await engine.workers.call(job(treejobs.changes, tree))
    return answer([{"Path": path, "Kind": _KINDS[kind]} for kind, path in listed] or None)


HANDLERS: Mapping[str, Handler] = {
    "HEAD /containers/{name}/archive": head,
    "GET /containers/{name}/archive": get,
    "PUT /containers/{name}/archive": put,
    "GET /containers/{name}/export": export,
    "GET /containers/{name}/changes": changes,
}
