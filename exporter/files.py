"""Outputs as files of this machine: directories, tars, image archives, a Docker engine [OUT-3..6].

Everything appears whole or not at all: archives are written beside their place and renamed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pybuild.executor.workers.job import WorkerModule, job
from pybuild.exporter.atomicfile import is_stream, whole_file
from pybuild.exporter.directories import make_output, open_output

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.engine.progress import InternalStep
    from pybuild.executor.files import export
    from pybuild.executor.files.values import ExportTree
    from pybuild.exporter.built import MadeImage
    from pybuild.exporter.output import Output
    from pybuild.exporter.sink import Work
    from pybuild.model.reference import Reference
else:
    export = WorkerModule("pybuild.executor.files.export")


class LocalSink:
    """The files of the invoking user, at the outputs' ``dest``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def title(self, output: Output) -> str:
        if output.type == "docker" and not output.dest:
            return "exporting to docker engine"
        return output.title

    def is_repeatable(self, output: Output) -> bool:
        return not is_stream(output.dest)

    async def file(self, output: Output, work: Work, step: InternalStep) -> None:
        """``type=tar`` and archives: a file that is replaced whole, or standard output [OUT-6]."""
        with whole_file(output.dest) as fd:
            await work(fd)

    async def directory(
        self, output: Output, trees: Sequence[ExportTree], step: InternalStep
    ) -> None:
        """``type=local``: a directory of the invoking user [OUT-5, OUT-16, OUT-17]."""
        top = os.path.abspath(output.dest)
        async with AsyncExitStack() as stack:
            placed: list[ExportTree] = []
            fds: dict[str, int] = {}
            for tree in trees:
                for dest in (top, os.path.join(top, tree.folder) if tree.folder else top):
                    if dest not in fds:
                        fds[dest] = open_output(dest, make=True)
                        stack.callback(os.close, fds[dest])
                number = list(fds).index(dest)
                placed.append(tree._replace(dest=number, stamp=bool(tree.folder)))
            work = job(export.local_job, placed, replaces=output.replaces)
            await self._engine.workers.call(work, fds=list(fds.values()))

    async def image(
        self,
        output: Output,
        made: MadeImage,
        names: Sequence[Reference],
        archive: Work,
        step: InternalStep,
    ) -> None:
        """``type=oci`` and ``type=docker``: one file, a directory with ``tar=false``, an engine."""
        if output.type == "docker" and not output.dest:
            await self._load(output, made, names, step)
        elif output.flag("tar", True):
            await self.file(output, archive, step)
        else:
            from pybuild.image.archive import write_oci_layout

            texts = [str(name) for name in names]
            where = (output.dest, self._engine.store.blobs.path, made.dated, texts)
            await asyncio.to_thread(write_oci_layout, *where, opened=make_output)

    async def _load(
        self, output: Output, made: MadeImage, names: Sequence[Reference], step: InternalStep
    ) -> None:
        """Give the image to a Docker engine [OUT-4]."""
        from pybuild.exporter.docker.address import address_of
        from pybuild.exporter.docker.load import load_into

        address = address_of(os.environ, output.attrs.get("context", ""))
        step.say(f"loading into {address.url}")
        texts = [str(name) for name in names]
        await load_into(self._engine.store, address, made.descriptor, texts, step.say)
