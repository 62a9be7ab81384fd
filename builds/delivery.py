"""The end of a build: results are attested, exported and given to caches, and the store is kept small."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.engine.limits import keep_mounts, keep_within
from pybuild.exporter.built import Built, Exported
from pybuild.exporter.export import export_all
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import PybuildError
from pybuild.model.events import Emit

if TYPE_CHECKING:
    from pybuild.cache.content.origins import Origin
    from pybuild.engine.engine import Engine
    from pybuild.exporter.output import Output
    from pybuild.exporter.sink import Sink
    from pybuild.model.reference import Reference
    from pybuild.remotecache.session import CacheSession
    from pybuild.solver.solution import Solution

Attest = Callable[[Sequence[Built]], Awaitable[list[Built]]]
"""Gives results their attestations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The places of a build's results.

    Attributes:
        tags: of images, beside those of their outputs.
        sink: gives the place for the bytes of an output, by its number.
        origin: that an image kept in the store is the last result of; None: that does not keep it.
    """

    outputs: Sequence[Output]
    tags: Sequence[Reference]
    sink: Callable[[int], Sink]
    origin: Origin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The traces of a delivery.

    Attributes:
        exported: by the number of the output.
        cache: the manifest of the cache, if one was written.
    """

    exported: Sequence[Exported]
    built: Sequence[Built]
    cache: Descriptor | None


async def deliver(
    engine: Engine,
    delivery: Delivery,
    built: Sequence[Built],
    solutions: Callable[[], Sequence[Solution]],
    cache_session: CacheSession,
    attest: Attest,
    emit: Emit,
) -> Delivered:
    """Bring the results of a build where they are to go.

    Args:
        solutions: gives all that was solved in the build so far, oldest first.

    Raises:
        PybuildError: one of them cannot go there.
    """
    targets = [one.lowered.result for one in built]
    built = await attest(built)
    inline = await cache_session.inline(solutions(), targets)
    built = [replace(one, inline_cache=text) for one, text in zip(built, inline, strict=True)]
    exported = await export_all(
        engine,
        delivery.outputs,
        delivery.tags,
        built,
        emit,
        delivery.sink,
        delivery.origin,
    )
    cache = await cache_session.export(solutions(), targets, emit)
    return Delivered(exported=exported, built=built, cache=cache)


async def keep_store(engine: Engine) -> None:
    """Leave the store as settings want it after a build, which is not failed by that."""
    if engine.settings.durable:
        await asyncio.to_thread(engine.store.deltas.flush)
    try:
        await asyncio.to_thread(keep_mounts, engine.store, engine.settings)
        await asyncio.to_thread(keep_within, engine.store, engine.settings.limits)
    except PybuildError as error:
        engine.store.warn(f"cannot free space: {error.message}")
