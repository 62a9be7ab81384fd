"""From results to outputs: layers, config, manifest, and where they go [OUT]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from pybuild.engine.progress import InternalStep, internal_step
from pybuild.engine.repair import mended
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.exporter.annotations import AnnotationPlace, Annotations
from pybuild.exporter.built import Built, Exported, MadeImage
from pybuild.exporter.earlypush import PushAhead
from pybuild.exporter.imagemaker import FinishedImage, ImageMaker
from pybuild.exporter.output import Output, check_tagless, output_names
from pybuild.image.manifest import build_index
from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, Descriptor
from pybuild.model.errors import PybuildError, UsageError, UserError
from pybuild.model.events import Emit
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.content.origins import Origin
    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine
    from pybuild.executor.files import export
    from pybuild.executor.files.values import ExportTree
    from pybuild.exporter.sink import Sink
    from pybuild.image.layer.secretrules import SecretValue
else:
    export = WorkerModule("pybuild.executor.files.export")

_PIECE_BYTES = 1 << 20


def is_delivered(outputs: Sequence[Output]) -> bool:
    """Whether the results themselves are wanted, or just that they are made."""
    return any(output.type != "cacheonly" for output in outputs)


def succeeding(
    store: Store, outputs: Sequence[Output], origin: Origin
) -> AbstractContextManager[None]:
    """Let the last result of the same context go, where nothing else can, if there is to be a newer."""
    keeps = any(o.type in ("image", "registry") and o.flag("store", True) for o in outputs)
    if store.budget is None or not keeps:
        return nullcontext()
    return store.budget.succeeding(origin)


async def export_all(
    engine: Engine,
    outputs: Sequence[Output],
    tags: Sequence[Reference],
    built: Sequence[Built],
    emit: Emit,
    sink: Callable[[int], Sink],
    origin: Origin | None = None,
) -> list[Exported]:
    """Write every output, and return the traces of each.

    Args:
        sink: gives the place for the bytes of an output, by its number.
        origin: that an image kept here is the last result of; None where that would not keep it.

    Raises:
        UserError: an output means nothing for these results.
    """
    exported: list[Exported] = []
    for number, output in enumerate(outputs):
        if output.type == "cacheonly":
            exported.append(Exported())
            continue
        place = None if output.is_kept else sink(number)
        title = output.title if place is None else place.title(output)
        async with internal_step(title, emit, engine.clock) as step:
            export = partial(_export, engine, tags, output, built, place, origin, step)
            repeatable = partial(_is_repeatable, place, output)
            exported.append(await mended(export, engine.store.blobs, emit, repeatable))
    return exported


def _is_repeatable(place: Sink | None, output: Output) -> bool:
    return place is None or place.is_repeatable(output)


async def _export(
    engine: Engine,
    tags: Sequence[Reference],
    output: Output,
    built: Sequence[Built],
    sink: Sink | None,
    origin: Origin | None,
    step: InternalStep,
) -> Exported:
    if sink is None or output.is_image:
        return await _image(engine, tags, output, built, sink, origin, step)
    if output.type == "local":
        await _directory(engine, output, built, sink, step)
    else:
        await _tar(engine, output, built, sink, step)
    return Exported()


async def _directory(
    engine: Engine, output: Output, built: Sequence[Built], sink: Sink, step: InternalStep
) -> None:
    """``type=local``: the file trees as a directory, or as one for each platform.

    Raises:
        UsageError: one directory is to hold several trees and nothing that is in one of them alone.
    """
    splits = output.flag("platform-split", any(one.is_one_of_many for one in built))
    if output.replaces and len(built) > 1 and not splits:
        raise UsageError('output mode "delete" needs a directory for each platform')
    async with AsyncExitStack() as stack:
        trees: list[ExportTree] = []
        for one in built:
            shares = one.is_one_of_many and not splits
            tree = await stack.enter_async_context(_tree(engine, output, one, shares=shares))
            folder = one.folder if splits else ""
            name = one.key or str(one.lowered.platform)
            trees.append(tree._replace(folder=folder, name=name))
        await sink.directory(output, trees, step)


async def _tar(
    engine: Engine, output: Output, built: Sequence[Built], sink: Sink, step: InternalStep
) -> None:
    """``type=tar``: the file trees as one archive."""
    async with AsyncExitStack() as stack:
        trees: list[ExportTree] = []
        for one in built:
            tree = await stack.enter_async_context(_tree(engine, output, one))
            trees.append(tree._replace(prefix=one.folder if one.is_one_of_many else ""))
        trees.sort(key=lambda tree: tree.prefix)

        async def write(fd: int) -> None:
            await engine.workers.call(job(export.tar_job, trees), fds=[fd])

        await sink.file(output, write, step)


@asynccontextmanager
async def _tree(
    engine: Engine, output: Output, one: Built, *, shares: bool = False
) -> AsyncGenerator[ExportTree]:
    """Give a result's tree read-only, with its attestations in it.

    Args:
        shares: with those of other platforms, so that names must say which it is.
    """
    deltas = one.snapshot.deltas
    lowers = await engine.layers().ensure(deltas, lambda event: None)
    tree = await engine.export_tree(lowers)
    tree = tree._replace(epoch=output.epoch(one.lowered.epoch))
    if not one.attestations:
        yield tree
        return
    from pybuild.exporter.attest.write import attestation_files, with_files

    files = await attestation_files(
        engine,
        deltas,
        one.attestations,
        prefix=output.attrs.get("attestation-prefix", ""),
        platform=one.lowered.platform if shares else None,
    )
    async with with_files(engine, tree, files) as whole:
        yield whole


async def _image(
    engine: Engine,
    tags: Sequence[Reference],
    output: Output,
    built: Sequence[Built],
    sink: Sink | None,
    origin: Origin | None,
    step: InternalStep,
) -> Exported:
    names = output_names(tags, output)
    if not built:
        raise UserError("no tree to make an image of")
    values: list[SecretValue] = []
    if output.checks_secrets and built[0].secrets:
        from pybuild.exporter.pushguard import values_of

        values = await values_of(engine, built[0].secrets)
    async with PushAhead(engine, output, names, step, values) as ahead:
        made = await make_image(engine, output, built, step, names, ahead)
        if output.pushes and output.flag("store", True):
            # Naming it will wait for the disk; meanwhile the last of it is still being sent.
            await asyncio.gather(ahead.settled(), asyncio.to_thread(engine.store.blobs.flush))
        else:
            await ahead.settled()
    if sink is not None:
        await _check_secrets(engine, output, made, step, values)
        archive = partial(_write_archive, engine, output, made, names)
        await sink.image(output, made, names, archive, step)
    else:
        await keep_image(engine, output, made, names, step, origin, values)
    return Exported(
        made=made, names=tuple(str(name) for name in names), metadata=made.metadata(names)
    )


async def _write_archive(
    engine: Engine, output: Output, made: MadeImage, names: Sequence[Reference], fd: int
) -> None:
    """Write the image as one file."""
    from concurrent.futures import ThreadPoolExecutor

    from pybuild.image.archive import NamedImage, write_docker_archive, write_oci_archive
    from pybuild.net.tasks import finish_in

    write = write_oci_archive if output.type == "oci" else write_docker_archive
    image = NamedImage(made.dated, [str(name) for name in names])

    def work() -> None:
        with os.fdopen(os.dup(fd), "wb", buffering=_PIECE_BYTES) as file:
            write(file, engine.store.blobs.path, [image])

    # A thread of its own: it may wait for a reader, who reads as slowly as it likes.
    with ThreadPoolExecutor(1, thread_name_prefix="archive") as pool:
        await finish_in(pool, work)


async def make_image(
    engine: Engine,
    output: Output,
    built: Sequence[Built],
    step: InternalStep,
    names: Sequence[Reference] = (),
    ahead: PushAhead | None = None,
) -> MadeImage:
    """Make the image that *output* describes; an index for several platforms or attestations.

    Args:
        names: of the image, for attestations.
        ahead: sends layers somewhere while they are made.

    Raises:
        UsageError: a compression that there is not, or attestations or annotations in Docker's types.
    """
    notes = output.annotations()
    attested = any(one.attestations for one in built)
    oci_types = output.oci_types or (output.follows_attestations and attested)
    rewrite = output.flag("rewrite-timestamp")
    epochs = [output.epoch(one.lowered.epoch) for one in built]
    if rewrite and None in epochs:
        step.say("rewrite-timestamp is specified, but no source-date-epoch was found")
    makers = [
        ImageMaker(
            engine,
            one,
            oci_types,
            output.compression,
            output.level(),
            epoch=epoch,
            rewrite=rewrite,
            force=output.flag("force-compression"),
            annotations=notes,
            ahead=ahead,
        )
        for one, epoch in zip(built, epochs, strict=True)
    ]
    date = epochs[0] if len(set(epochs)) == 1 else None
    with step.doing("exporting layers"):
        images = [await maker.make() for maker in makers]
    for image in images:
        step.did(f"exporting manifest {image.manifest.digest}")
        step.did(f"exporting config {image.config.digest}")
    lines = {layer: span for image in images for layer, span in image.lines.items()}
    is_index = built[0].is_one_of_many or len(built) > 1 or _is_attested(output, built[0])
    _check_places(notes, built, is_index, step)
    if not is_index:
        return MadeImage(images[0].manifest, images[0].config.digest, date, lines)
    children = [image.manifest for image in images]
    if attested:
        if not oci_types:
            raise UsageError(
                'cannot export attestations with "oci-mediatypes=false"',
                hints=["use type=oci", "leave them out with --provenance=false"],
            )
        children += await _attestations(engine, output, built, images, names, step)
    media_type = OCI_INDEX if oci_types else DOCKER_INDEX
    data = build_index(children, media_type, annotations=notes.of(AnnotationPlace.INDEX))
    digest = await asyncio.to_thread(engine.store.blobs.put, data)
    step.did(f"exporting manifest list {digest}")
    image_id = images[0].config.digest if len(images) == 1 else digest
    index = Descriptor(media_type, digest, len(data), notes.of(AnnotationPlace.INDEX_DESCRIPTOR))
    return MadeImage(index, image_id, date, lines)


async def _check_secrets(
    engine: Engine,
    output: Output,
    made: MadeImage,
    step: InternalStep,
    values: Sequence[SecretValue],
) -> None:
    if output.checks_secrets:
        from pybuild.exporter.pushguard import stop_secrets

        allowed = output.allowed_secrets
        await stop_secrets(engine, made.descriptor, step, allowed, made.lines, values)


def _check_places(
    notes: Annotations, built: Sequence[Built], is_index: bool, step: InternalStep
) -> None:
    """Refuse annotations of an index that there is not; say which are for no platform of these.

    Raises:
        UsageError: one of the index [OUT-14].
    """
    if not is_index and (
        notes.of(AnnotationPlace.INDEX) or notes.of(AnnotationPlace.INDEX_DESCRIPTOR)
    ):
        raise UsageError(
            "index annotations not supported for single platform export",
            hints=["annotate the manifest", "several platforms or attestations make an index"],
        )
    for other in notes.for_others(one.lowered.platform for one in built):
        step.say(f"warning: no {other.platform} in the image: annotation {other.key} is left out")


def _is_attested(output: Output, one: Built) -> bool:
    """Whether a single image needs an index; in an archive those for images alone have no place."""
    inline = output.flag("attestation-inline", output.type in ("image", "registry"))
    return any(inline or not attestation.inline_only for attestation in one.attestations)


async def _attestations(
    engine: Engine,
    output: Output,
    built: Sequence[Built],
    images: Sequence[FinishedImage],
    names: Sequence[Reference],
    step: InternalStep,
) -> list[Descriptor]:
    """Store the attestations of each platform, and return their entries in the index."""
    from pybuild.exporter.attest.write import attach

    entries: list[Descriptor] = []
    for one, image in zip(built, images, strict=True):
        attached = await attach(
            engine,
            image.manifest,
            one.lowered.platform,
            names,
            one.attestations,
            deltas=one.snapshot.deltas,
            as_artifact=output.flag("oci-artifact", not output.is_older),
        )
        if attached is not None:
            step.did(f"exporting attestation manifest {attached.digest}")
            entries.append(attached)
    return entries


async def keep_image(
    engine: Engine,
    output: Output,
    made: MadeImage,
    names: Sequence[Reference],
    step: InternalStep,
    origin: Origin | None,
    values: Sequence[SecretValue] = (),
) -> None:
    """Name the image in the store, and push it, as *output* says.

    Args:
        origin: the build whose last result it is, which keeps it; a server's clients could not
            have it removed.
        values: secrets of the build, which no layer may have if it is pushed.
    """
    by_digest = output.flag("push-by-digest")
    if by_digest:
        check_tagless(names)
    if output.flag("store", True):
        canonical = [Reference(n.host, n.path, digest=made.descriptor.digest) for n in names]
        kept = [] if by_digest else list(names)
        if by_digest or output.flag("name-canonical"):
            kept += dict.fromkeys(canonical)
        for name in kept:
            await asyncio.to_thread(engine.store.images.tag, str(name), made.descriptor, origin)
            step.did(f"naming to {name}")
        if not names:
            await asyncio.to_thread(engine.store.images.add_dangling, made.descriptor, origin)
    await _check_secrets(engine, output, made, step, values)
    if output.pushes:
        insecure = output.flag("registry.insecure")
        await push(engine, made.descriptor, names, step, by_digest=by_digest, insecure=insecure)


async def push(
    engine: Engine,
    descriptor: Descriptor,
    names: Sequence[Reference],
    step: InternalStep,
    *,
    by_digest: bool = False,
    insecure: bool = False,
) -> None:
    """Push an image of the store under each of *names*; layers that are elsewhere are mounted.

    Args:
        by_digest: the repositories get the image without a tag.
        insecure: plain HTTP and unproved certificates will do.

    Raises:
        UsageError: no name to push to.
    """
    from pybuild.exporter.mountsources import known_places, note_pushed
    from pybuild.registry.client.push import push_image

    if not names:
        raise UsageError("tag is needed when pushing to registry", hints=["name the image with -t"])
    sources = await asyncio.to_thread(known_places, engine.store, descriptor)
    for digest, places in sources.items():
        sources[digest] = [near for place in places for near in engine.near(place)]
    hosts = sorted({name.host for name in names}) if insecure else []
    async with engine.client_for(hosts) as client:
        try:
            with step.doing("pushing layers"):
                await push_image(
                    client,
                    engine.store.blobs,
                    descriptor,
                    names,
                    mount_sources=sources,
                    push_by_digest=by_digest,
                    progress=step.transfer,
                )
        except PybuildError as error:
            hints = (*_official(names), *error.hints)[:2]
            raise error.copy_with(hints=hints) from error.__cause__
    await asyncio.to_thread(note_pushed, engine.store, descriptor, names)
    for name in names:
        shown = name.repository if by_digest else name
        step.did(f"pushing manifest for {shown}@{descriptor.digest}")


def _official(names: Sequence[Reference]) -> list[str]:
    """Return a hint about the first name without a host and an owner: nobody may push to it."""
    return [
        f"{name.familiar} is a name of Docker Hub's own images: pybuild tag {name.familiar} HOST/{name.familiar}, and push that"
        for name in names
        if name.repository.startswith("docker.io/library/")
    ][:1]
