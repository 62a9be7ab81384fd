"""Copies between a container's file tree and this machine, as tars through a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from pybuild.containers.container import Container
from pybuild.containers.trees import tree_of
from pybuild.engine.engine import Engine
from pybuild.executor.workers.job import Job, WorkerModule, job
from pybuild.model.errors import UsageError, UserError
from pybuild.model.tarplaces import NoPlace, TarPlace, extract, place_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.containers import treejobs
else:
    treejobs = WorkerModule("pybuild.containers.treejobs")


async def copy_out(
    engine: Engine, container: Container, path: str, dest: str, *, follow: bool, owners: bool
) -> None:
    if not path:
        raise UsageError("the path in the container is empty", hints=["write CONTAINER:/PATH"])

    def take(fd: int) -> None:
        if dest == "-":
            with open(fd, "rb", closefd=False) as source:
                while data := source.read1(1 << 16):
                    sys.stdout.buffer.write(data)
            return
        with open(fd, "rb", closefd=False) as source:
            _place_here(source, path, dest, owners=owners)

    with tree_of(engine.store, container, engine.mount_dir()) as (tree, fds):
        await _carry(engine, job(treejobs.read, tree, path, follow=follow), fds, take, reads=True)
    container.note("archive-path")


def _place_here(source: BinaryIO, path: str, dest: str, *, owners: bool) -> None:
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            first = archive.next()
            if first is None:
                return
            inside = first.isdir() and path.endswith("/.") and os.path.isdir(dest)
            place = TarPlace(dest, "") if inside else place_for(dest, first)
            extract(archive, first, place, owners=owners)
        while source.read(1 << 16):
            pass  # what fills the archive up: who writes it would else find nobody there
    except NoPlace as error:
        raise UserError(str(error)) from error
    except tarfile.ReadError:
        pass  # nothing came: the worker says why
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise UserError(f"cannot copy to {dest}: {name}{(error.strerror or '').lower()}") from error


async def copy_in(
    engine: Engine, container: Container, path: str, dest: str, *, follow: bool
) -> None:
    is_archive = path == "-"
    if not is_archive and not os.path.lexists(path):
        raise UserError(f"lstat {path}: no such file or directory")

    def give(fd: int) -> None:
        with open(fd, "wb", closefd=False) as out, suppress(BrokenPipeError):
            if is_archive:
                while data := os.read(0, 1 << 16):
                    out.write(data)
                return
            real = os.path.realpath(path) if follow or path.endswith(("/", "/.")) else path
            name = os.path.basename(os.path.abspath(path))
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                archive.add(real, arcname=name or ".")

    with tree_of(engine.store, container, engine.mount_dir()) as (tree, fds):
        if is_archive:  # whose members keep their names, also the first
            work = job(treejobs.unpack, tree, dest or "/", keeps_kinds=True)
        else:
            work = job(treejobs.write, tree, dest or "/", into=path.endswith("/."))
        await _carry(engine, work, fds, give, reads=False)
    container.note("extract-to-dir")


async def _carry(
    engine: Engine,
    work: Job[None],
    fds: list[int],
    ours: Callable[[int], None],
    *,
    reads: bool,
) -> None:
    """Have a worker do its half of a copy and do ours, joined by a pipe.

    The fault of who reads is told first: who writes finds nobody there then.
    """
    read_end, write_end = os.pipe()
    mine, theirs = (read_end, write_end) if reads else (write_end, read_end)

    async def there() -> None:
        try:
            await engine.workers.call(work, fds=[theirs, *fds])
        finally:
            os.close(theirs)

    def here() -> None:
        try:
            ours(mine)
        finally:
            os.close(mine)

    results = await asyncio.gather(there(), asyncio.to_thread(here), return_exceptions=True)
    for result in reversed(results) if reads else results:
        if isinstance(result, BaseException):
            raise result
