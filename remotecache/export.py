"""Writes the cache of a build to where others find it [CCH-10, CCH-11]."""

from __future__ import annotations

from collections.abc import Sequence
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
from pybuild.remotecache.results import StepResult, within
from pybuild.remotecache.writer import CacheWriter, told

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.remotecache.reader import Memo


def target_of(engine: Engine, wanted: CacheTo) -> CacheTarget:
    """Return where an export is written, on this machine's side."""
    if wanted.ref is not None:
        return RegistryCache(engine, wanted.ref, needed=not wanted.ignore_error)
    if wanted.s3 is not None:
        from pybuild.remotecache.places.s3 import S3Cache

        return S3Cache(engine, wanted.s3)
    return DirectoryCache(engine, wanted.dest, wanted.tag)


async def usable_targets(
    engine: Engine, wanted: Sequence[CacheTo], emit: Emit
) -> list[tuple[CacheTo, CacheTarget]]:
    """Return where exports are written; inline ones are in the image.

    Raises:
        PybuildError: a place cannot be written, and that is not to be ignored.
    """
    usable: list[tuple[CacheTo, CacheTarget]] = []
    for one in wanted:
        if one.type == "inline":
            continue
        target = target_of(engine, one)
        try:
            await target.check()
        except PybuildError as error:
            if not one.ignore_error:
                raise
            emit(BuildWarning(message=f"the cache will not be exported: {error.message}"))
        else:
            usable.append((one, target))
    return usable


def writer_of(engine: Engine, wanted: CacheTo, target: CacheTarget, memo: Memo) -> CacheWriter:
    """Return what writes there; nobody watches it until it is to hurry."""
    unseen = InternalStep(Digest.of(b""), _nobody, engine.clock)
    return CacheWriter(engine, wanted, target, memo, unseen)


async def export_caches(
    engine: Engine,
    writers: Sequence[CacheWriter],
    found: Sequence[StepResult],
    stacks: Sequence[Sequence[str]],
    emit: Emit,
) -> Descriptor | None:
    """Write the cache to every place; return a manifest that others name, else the last one.

    Args:
        found: what is stored of the build's steps.
        stacks: the deltas of its results, for ``mode=min``.

    Raises:
        PybuildError: it cannot be written, and that is not to be ignored.
    """
    made: Descriptor | None = None
    named = False
    for writer in writers:
        try:
            async with internal_step(writer.target.title, emit, engine.clock) as step:
                kept = found if writer.wanted.everything else within(found, stacks)
                written = await _export(writer, kept, step)
                if written is not None and not named:
                    made, named = written, writer.target.is_named_elsewhere
        except Exception as error:
            cause = told(error)
            if not isinstance(cause, PybuildError):
                raise cause from error
            cause.message = in_doubt(cause.message, writer.wanted.meant)
            if not writer.wanted.ignore_error:
                raise cause from error
            emit(BuildWarning(message=f"the cache was not exported: {cause.message}"))
    return made


async def _export(
    writer: CacheWriter, found: Sequence[StepResult], step: InternalStep
) -> Descriptor | None:
    writer.hurry(step)
    await writer.send_all(found)
    step.transfer("preparing build cache for export", 0, 0, done=True)
    made = await writer.publish(found)
    if made is None:
        step.say("skipping cache export for empty result")
    else:
        await writer.confirm(found)
        await writer.collect()
    return made


def _nobody(_event: Event) -> None:
    """What goes on behind the build is not shown."""
