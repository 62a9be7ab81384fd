"""``cp``, ``diff``, ``export`` and ``commit``: the file tree of a container as files, a list, a tar, an image."""

from __future__ import annotations

import asyncio
import os
import sys

from pybuild.builds.imageimport import checked_change
from pybuild.commandline.parser import Parsed
from pybuild.commands import archives
from pybuild.commands.localstore import open_store, with_engine
from pybuild.containers.committing import commit_container
from pybuild.containers.containers import Containers
from pybuild.containers.copying import copy_in, copy_out
from pybuild.containers.namedlines import container_place
from pybuild.containers.trees import tree_of
from pybuild.engine.engine import Engine
from pybuild.executor.files.values import ExportTree
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.model.errors import UsageError, UserError
from pybuild.model.reference import parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.containers import treejobs
    from pybuild.executor.files import export as export_jobs
else:
    export_jobs = WorkerModule("pybuild.executor.files.export")
    treejobs = WorkerModule("pybuild.containers.treejobs")


def diff(parsed: Parsed) -> int:
    """List what a container changed: A added, C changed, D deleted."""

    async def work(engine: Engine) -> list[tuple[str, str]]:
        container = await asyncio.to_thread(Containers(engine.store).find, parsed.positionals[0])
        with tree_of(engine.store, container, engine.mount_dir(), bare=True) as (tree, _):
            return await engine.workers.call(job(treejobs.changes, tree))

    for kind, path in with_engine(parsed, work, to_read=True):
        sys.stdout.write(f"{kind} {path}\n")
    return 0


def export(parsed: Parsed) -> int:
    """Write the file tree of a container, without its volumes, or of an image as a tar."""
    with open_store(parsed) as store:
        try:
            Containers(store).find(parsed.positionals[0])
        except UserError:
            return archives.export(parsed)
    path = parsed.one("output")
    if not path and sys.stdout.isatty():
        raise UsageError(
            "cowardly refusing to save to a terminal", hints=["name a file with -o, or redirect"]
        )

    async def work(engine: Engine) -> None:
        container = await asyncio.to_thread(Containers(engine.store).find, parsed.positionals[0])
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if path else os.dup(1)
        try:
            with tree_of(engine.store, container, engine.mount_dir(), bare=True) as (tree, _):
                whole = ExportTree(
                    (*tree.lowers, tree.upper), tree.mount_dir, await engine.userxattr()
                )
                await engine.workers.call(job(export_jobs.tar_job, [whole]), fds=[fd])
            container.note("export")
        finally:
            os.close(fd)

    with_engine(parsed, work)
    return 0


def commit(parsed: Parsed) -> int:
    """Make an image of what a container is now, and print its ID."""
    name, *names = parsed.positionals
    reference = parse_reference(names[0]) if names else None
    changes = [checked_change(change) for change in parsed.many("change")]

    async def work(engine: Engine) -> str:
        store = engine.store
        container = await asyncio.to_thread(Containers(store).find, name)
        image = await commit_container(
            engine, container, comment=parsed.one("message"), author=parsed.one("author")
        )
        if changes or reference is None:
            await asyncio.to_thread(store.images.add_dangling, image.manifest)
        else:
            await asyncio.to_thread(store.images.tag, str(reference), image.manifest)
        about = {"comment": parsed.one("message"), "imageID": str(image.config.digest)}
        container.note("commit", {**about, "imageRef": "" if reference is None else str(reference)})
        return str(image.config.digest)

    image_id = with_engine(parsed, work)
    if changes:
        image_id = archives.build_changed(parsed, image_id, changes, reference)
    sys.stdout.write(f"{image_id}\n")
    return 0


def cp(parsed: Parsed) -> int:
    """Copy between a container and this machine; ``-`` is a tar on standard input or output."""
    source, dest = map(container_place, parsed.positionals)
    if bool(source[0]) == bool(dest[0]):
        text = "copying between containers is not supported" if source[0] else ""
        raise UsageError(
            text or "one of the two must be in a container: CONTAINER:PATH",
            hints=["pybuild cp CONTAINER:PATH PATH, or the other way round"],
        )
    follow, owners = parsed.flag("follow-link"), parsed.flag("archive")

    async def work(engine: Engine) -> None:
        container = await asyncio.to_thread(Containers(engine.store).find, source[0] or dest[0])
        if source[0]:
            await copy_out(engine, container, source[1], dest[1], follow=follow, owners=owners)
        else:
            await copy_in(engine, container, source[1], dest[1], follow=follow)

    with_engine(parsed, work)
    return 0
