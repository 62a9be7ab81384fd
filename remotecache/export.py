"""Writes the cache of a build to its targets, where others find it [CCH-10, CCH-11]."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep, internal_step
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.events import BuildWarning, Emit, Event
from pybuild.remotecache.options import CacheTo, in_doubt
from pybuild.remotecache.place import CacheTarget
from pybuild.remotecache.places.directory import DirectoryCache
from pybuild.remotecache.places.registry import RegistryCache
from pybuild.remotecache.places.services import is_nowhere, open_service
from pybuild.remotecache.results import StepResult, within
from pybuild.remotecache.writer import CacheWriter, export_error

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.remotecache.mounts import CarriedMounts
    from pybuild.remotecache.reader import Memo


MANIFEST = "cache.manifest"


def target_of(engine: Engine, cache_to: CacheTo) -> CacheTarget:
    """Return the target of an export, on this machine's side."""
    if cache_to.ref is not None:
        return RegistryCache(engine, cache_to.ref, needed=not cache_to.ignore_error)
    if cache_to.service is not None:
        return open_service(engine, cache_to.service)
    return DirectoryCache(engine, cache_to.dest, cache_to.tag)


async def usable_targets(
    exports: Sequence[CacheTo], find: Callable[[CacheTo], CacheTarget], emit: Emit
) -> list[tuple[CacheTo, CacheTarget]]:
    """Return the targets of *exports*, as *find* returns them; inline ones are in the image.

    Raises:
        PybuildError: a place cannot be written or is none, and that is not to be ignored.
    """
    usable: list[tuple[CacheTo, CacheTarget]] = []
    for cache_to in exports:
        if cache_to.type == "inline":
            continue
        if is_nowhere(cache_to.service):
            emit(BuildWarning(message=f"{cache_to.service}: no such job runs: no cache is written"))
            continue
        try:
            target = find(cache_to)
            await target.check()
        except PybuildError as error:
            if not cache_to.ignore_error:
                raise
            emit(BuildWarning(message=f"the cache will not be exported: {error.message}"))
        else:
            usable.append((cache_to, target))
    return usable


def writer_of(engine: Engine, cache_to: CacheTo, target: CacheTarget, memo: Memo) -> CacheWriter:
    """Return the writer of one export; its step is shown to nobody until it is to hurry."""
    unseen = InternalStep(Digest.of(b""), _nobody, engine.clock)
    return CacheWriter(engine, cache_to, target, memo, unseen)


async def export_caches(
    engine: Engine,
    writers: Sequence[CacheWriter],
    results: Sequence[StepResult],
    stacks: Sequence[Sequence[str]],
    emit: Emit,
    mounts: CarriedMounts | None = None,
) -> Descriptor | None:
    """Write the cache to every place; return a manifest that others name, else the last one.

    Args:
        results: the stored results of the build's steps.
        mounts: the build's cache mounts, for places that take them.
        stacks: the deltas of its results, for ``mode=min``.

    Raises:
        PybuildError: it cannot be written, and that is not to be ignored.
    """
    made: Descriptor | None = None
    named = False
    for writer in writers:
        try:
            async with internal_step(writer.target.title, emit, engine.clock) as step:
                kept = results if writer.cache_to.everything else within(results, stacks)
                if mounts is not None:
                    await mounts.save(writer, step, emit)
                written = await _export(writer, kept, step)
                if written is not None and not named:
                    made, named = written, writer.target.is_named_by_others
        except Exception as error:
            cause = export_error(error)
            if not isinstance(cause, PybuildError):
                raise cause from error
            text = in_doubt(cause.message, writer.cache_to.meant)
            if not writer.cache_to.ignore_error:
                raise cause.saying(text) from error
            emit(BuildWarning(message=f"the cache was not exported: {text}"))
    return made


async def _export(
    writer: CacheWriter, results: Sequence[StepResult], step: InternalStep
) -> Descriptor | None:
    writer.hurry(step)
    await writer.send_all(results)
    step.transfer("preparing build cache for export", 0, 0, done=True)
    made = await writer.publish(results)
    if made is None:
        step.say("skipping cache export for empty result")
    else:
        await writer.confirm(results)
        await writer.collect()
    return made


def manifest_entry(manifest: Descriptor | None) -> dict[str, str]:
    """Return the cache's entry in the response."""
    if manifest is None:
        return {}
    return {MANIFEST: json.dumps(manifest.to_json(), separators=(",", ":"))}


def _nobody(_event: Event) -> None:
    """Take an event of the work behind the build, which is not shown."""
