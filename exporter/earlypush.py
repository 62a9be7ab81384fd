"""The part of a push that can be done while steps run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from pybuild.model.descriptor import Descriptor
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.engine.progress import InternalStep
    from pybuild.exporter.output import Output
    from pybuild.image.layer.secretrules import Leak, SecretValue
    from pybuild.model.ops import Vertex
    from pybuild.registry.client.growingupload import GrowingFile
    from pybuild.solver.drive import OnMiss
    from pybuild.solver.messages import Run

    Search = asyncio.Task[list[Leak]]

_WORTH_BYTES = 1 << 20
"""A blob that has become so large is sent before its image is whole."""
_AT_ONCE = 2  # a client has four connections to a host, and needs some for whole blobs


def importing_ahead(outputs: Sequence[Output], missed: OnMiss) -> OnMiss:
    """Return *missed* that also has the registry client imported, if that will be needed.

    When the first step runs we wait for other processes; a fifth of a second that the push would
    begin with is gone by then.
    """
    if not any(output.pushes for output in outputs):
        return missed
    is_begun = False

    def missed_or_first(vertex: Vertex, run: Run) -> None:
        nonlocal is_begun
        if not is_begun:
            is_begun = True
            asyncio.get_running_loop().run_in_executor(None, _import)
        missed(vertex, run)

    return missed_or_first


def _import() -> None:
    with suppress(Exception):  # the push meets the error, and explains it
        for module in ("yarl", "pybuild.registry.client.push"):
            import_module(module)


class PushAhead:
    """Layers that are sent to where *output* pushes while they are made. A context.

    They go to the repository of the first name; the others mount from there [OUT-12].

    Attributes:
        searches: they are searched for secrets first.
        values: those of the build.
    """

    def __init__(
        self,
        engine: Engine,
        output: Output,
        names: Sequence[Reference],
        step: InternalStep,
        values: Sequence[SecretValue] = (),
    ) -> None:
        is_plain = output.pushes and not output.flag("registry.insecure")
        self._target = names[0] if names and is_plain else None
        self._engine = engine
        self._step = step
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self.values = values
        self.searches = output.checks_secrets
        self._searching: set[Search] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks: set[asyncio.Task[Any]] = {*self._waiting, *self._sending, *self._searching}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def search(self, roots: Sequence[str]) -> Search | None:
        """Begin to search a delta for secrets; None: nobody asked for that.

        Args:
            roots: its directories, which must stay while it is searched.
        """
        if self._target is None or not self.searches:
            return None
        from pybuild.exporter.pushguard import search_delta

        search = asyncio.create_task(search_delta(self._engine, roots, self.values))
        self._searching.add(search)
        return search

    def follow(self, path: str, search: Search | None = None) -> Follower:
        """Watch a blob's file that will be written at *path*.

        Args:
            search: of what is in it; nothing is sent before that is over, nor if it finds anything.
        """
        return Follower(self, path, search)

    async def settled(self) -> None:
        """Wait until all blobs that were begun are there, or given up; no more are begun.

        Once all is made, a client sends more at a time than we do.
        """
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._sending)

    def send(self, path: str) -> GrowingFile | None:
        """Begin to send the file at *path*, when it is its turn; None: it is not worth it."""
        if self._target is None or os.stat(path).st_size < _WORTH_BYTES:
            return None
        from pybuild.registry.client.growingupload import GrowingFile

        file = GrowingFile(path)
        task = asyncio.create_task(self._send(self._target, file))
        task.add_done_callback(lambda _: file.close())
        self._waiting.add(task)
        return file

    async def _send(self, target: Reference, file: GrowingFile) -> None:
        task = asyncio.current_task()
        assert task is not None
        async with self._turns:
            self._waiting.discard(task)
            self._sending.add(task)
            await self._engine.client().push_early(target, file, self._step.transfer)


class Follower:
    """One blob that is written."""

    def __init__(self, ahead: PushAhead, path: str, search: Search | None) -> None:
        self._search = search
        self._ahead = ahead
        self._path = path
        self._file: GrowingFile | None = None

    def grown(self, _: int) -> None:
        """Send on: the file has grown."""
        if self._file is not None:
            self._file.grown()
        elif self._may_send():
            self._file = self._ahead.send(self._path)

    def complete(self, descriptor: Descriptor) -> None:
        """Complete the blob, which is still at its path; *descriptor* describes it."""
        if self._file is None and self._may_send():
            self._file = self._ahead.send(self._path)
        if self._file is not None:
            self._file.complete(descriptor)

    def _may_send(self) -> bool:
        search = self._search
        if search is None:
            return True
        return (
            search.done()
            and not search.cancelled()
            and not search.exception()
            and not search.result()
        )
