"""The place that results leave the store for: files of this machine, or a client of a server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pybuild.engine.progress import InternalStep
    from pybuild.executor.files.values import ExportTree
    from pybuild.exporter.built import MadeImage
    from pybuild.exporter.output import Output
    from pybuild.model.reference import Reference

Work = Callable[[int], Awaitable[None]]
"""Writes a file to a descriptor."""


class Sink(Protocol):
    """Takes the bytes of outputs; raises UserError where it cannot."""

    def title(self, output: Output) -> str:
        """Return the name of the step that exports there, for people."""
        ...

    def is_repeatable(self, output: Output) -> bool:
        """Whether an export may begin again after its first bytes have gone."""
        ...

    async def file(self, output: Output, work: Work, step: InternalStep) -> None:
        """Take the file that *work* writes."""
        ...

    async def directory(
        self, output: Output, trees: Sequence[ExportTree], step: InternalStep
    ) -> None:
        """Take trees as files of a directory: each below its *folder*; *name* is its platform."""
        ...

    async def image(
        self,
        output: Output,
        made: MadeImage,
        names: Sequence[Reference],
        archive: Work,
        step: InternalStep,
    ) -> None:
        """Take an image that is for no registry and not for the store.

        Args:
            archive: writes it as one file, for a place that takes such.
        """
        ...


class NotedSink:
    """Another sink, and whether its first byte may have gone: until then all may begin again."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._has_begun = False
        self.title = sink.title

    def is_repeatable(self, output: Output) -> bool:
        return not self._has_begun or self._sink.is_repeatable(output)

    async def file(self, output: Output, work: Work, step: InternalStep) -> None:
        self._has_begun = True
        await self._sink.file(output, work, step)

    async def directory(
        self, output: Output, trees: Sequence[ExportTree], step: InternalStep
    ) -> None:
        self._has_begun = True
        await self._sink.directory(output, trees, step)

    async def image(
        self,
        output: Output,
        made: MadeImage,
        names: Sequence[Reference],
        archive: Work,
        step: InternalStep,
    ) -> None:
        self._has_begun = True
        await self._sink.image(output, made, names, archive, step)
