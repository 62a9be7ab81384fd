"""Finds the time of a SOURCE_DATE_EPOCH that names a source [REP-1]."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pybuild.builds.verdicts import InThread, in_place
from pybuild.engine.progress import internal_step
from pybuild.executor.sources.remote import RemoteSources
from pybuild.frontend.lowering.epoch import EpochSource, epoch_source
from pybuild.frontend.lowering.interface import LowerOptions
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.model.events import Emit

if TYPE_CHECKING:
    from pybuild.model.clock import Clock


class Epochs:
    """Asks each source for its time once a build."""

    def __init__(
        self, sources: RemoteSources, emit: Emit, clock: Clock, in_thread: InThread = in_place
    ) -> None:
        self._in_thread = in_thread
        self._sources = sources
        self._emit = emit
        self._clock = clock
        self._known: dict[EpochSource, int | None] = {}

    @property
    def sources(self) -> tuple[EpochSource, ...]:
        """The sources whose times were looked up."""
        return tuple(self._known)

    async def settle(self, dockerfile: Dockerfile, options: LowerOptions) -> LowerOptions:
        """Return *options* with the times that lowering the file needs.

        Raises:
            UserError: SOURCE_DATE_EPOCH names a source that is not there. EnvironmentFault: unreachable.
        """
        source = await self._in_thread(partial(epoch_source, dockerfile, options))
        if source is None:
            return options
        if source not in self._known:
            async with internal_step(source.title, self._emit, self._clock):
                self._known[source] = await self._sources.changed(source.op)
        return replace(options, epochs={**options.epochs, source.word: self._known[source]})
