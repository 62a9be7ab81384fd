"""Attestations and the store: scans and reads for them, and their way to outputs [ATT]."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pybuild.cache.records.layers import delta_made_into, delta_of_layer, layer_facts
from pybuild.executor.workers.job import WorkerModule
from pybuild.exporter.attest.attestation import MAX_BYTES, Attestation, core_first, unbundled
from pybuild.exporter.attest.layers import Known, by_step, stacks
from pybuild.exporter.attest.options import Provenance
from pybuild.exporter.attest.predicate import Facts, predicate, predicate_type
from pybuild.exporter.attest.supplement import supplemented
from pybuild.image.attestation import SPDX, Statement, Subject, put_attestations
from pybuild.image.manifest import Manifest, parse_config, parse_manifest
from pybuild.image.purl import package_url
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import Vertex
from pybuild.model.platform import Platform
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.engine.engine import Engine
    from pybuild.executor.files import gathering
    from pybuild.executor.files.values import ExportTree
else:
    gathering = WorkerModule("pybuild.executor.files.gathering")


# --- provenance -----------------------------------------------------------------------------------


def provenance(
    engine: Engine,
    options: Provenance,
    facts: Facts,
    result: Vertex,
    deltas: tuple[str, ...],
    known: Known,
) -> Attestation:
    """Return the provenance of *result*; its end, and its layers, are those of when it is written.

    Args:
        deltas: of the result; *known*: of other vertices.
    """

    async def write() -> Any:
        return await asyncio.to_thread(
            provenance_document, engine, options, facts, result, deltas, known
        )

    return Attestation(
        path=options.filename,
        predicate_type=predicate_type(options),
        predicate=write,
        inline_only=options.inline_only,
    )


def provenance_document(
    engine: Engine,
    options: Provenance,
    facts: Facts,
    result: Vertex,
    deltas: tuple[str, ...],
    known: Known,
) -> dict[str, Any]:
    """Return the predicate as of now (blocks)."""
    from dataclasses import replace

    layers: dict[str, Any] = {}
    if options.full and facts.definition is not None:
        store = engine.store
        stacks_of_steps = stacks(result, deltas, known, lambda digest: _image_deltas(store, digest))
        layers = by_step(
            stacks_of_steps, facts.definition.outputs, lambda stack: _layers(store, stack)
        )
    return predicate(replace(facts, layers=layers, finished=engine.clock.now()), options)


def _image_deltas(store: Store, manifest: Digest) -> tuple[str, ...] | None:
    """The stack that an image's layers are; None where its manifest is no longer here."""
    try:
        document = parse_manifest(store.blobs.read(manifest))
        if not isinstance(document, Manifest):
            return None
        config = parse_config(store.blobs.read(document.config.digest))
        diff_ids = [Digest.parse(text) for text in config["rootfs"]["diff_ids"]]
    except (PybuildError, KeyError, ValueError, TypeError):
        return None
    deltas: list[str] = []
    for diff_id in diff_ids:
        delta = delta_made_into(store.records, diff_id)
        if delta is None or not store.deltas.has(delta):
            delta = delta_of_layer(diff_id)
        deltas.append(delta)
    return tuple(deltas)


def _layers(store: Store, deltas: Sequence[str]) -> list[dict[str, Any]] | None:
    """The descriptors of a stack; None where one of them was never written as a blob."""
    chain: list[dict[str, Any]] = []
    for delta in deltas:
        facts = layer_facts(store.records, delta)
        if facts is None:
            return None
        blobs = facts.blobs or facts.rewritten
        written = next((blobs[kind].descriptor for kind in sorted(blobs)), None)
        descriptor = facts.descriptor or written
        if descriptor is None:
            return None
        chain.append(
            Descriptor(descriptor.media_type, descriptor.digest, descriptor.size).to_json()
        )
    return chain


# --- files of scanners and clients ----------------------------------------------------------------


async def unbundle(
    engine: Engine,
    deltas: Sequence[str],
    path: str,
    predicate_type: str = "",
    core: str = "",
) -> list[Attestation]:
    """Read a directory of in-toto statements in a result.

    Raises:
        UserError: it is not there, or holds something else.
    """
    files = await engine.read_tree(gathering.gather, deltas, path or "/", MAX_BYTES)
    return unbundled(files, predicate_type, core)


# --- images ---------------------------------------------------------------------------------------


async def attach(
    engine: Engine,
    image: Descriptor,
    platform: Platform,
    names: Iterable[Reference],
    attestations: Iterable[Attestation],
    *,
    deltas: Sequence[str],
    as_artifact: bool,
) -> Descriptor | None:
    """Store the attestations of *image*, and return their entry in its index; None for none.

    Args:
        deltas: of its layers.
    """
    subjects = [Subject.of(package_url(name, platform), image.digest) for name in names]
    if not subjects:
        # A statement that is about nothing is about everything: name the digest at least.
        subjects = [Subject.of("_", image.digest)]
    statements: list[Statement] = []
    for one in core_first(attestations):
        made = await one.statement(subjects)
        if one.is_core and one.predicate_type == SPDX:
            made = await asyncio.to_thread(_with_layers, engine.store, made, image, deltas)
        statements.append(made)
    if not statements:
        return None
    put = engine.store.blobs.put
    return await asyncio.to_thread(
        lambda: put_attestations(image, statements, put, as_artifact=as_artifact)
    )


def _with_layers(
    store: Store, statement: Statement, image: Descriptor, deltas: Sequence[str]
) -> Statement:
    """Return a list of the contents of *image* that names the layers of its files."""
    manifest = parse_manifest(store.blobs.read(image.digest), image.media_type)
    assert isinstance(manifest, Manifest)
    layers = [
        (store.deltas.path(delta), layer.digest)
        for delta, layer in zip(deltas, manifest.layers, strict=True)
    ]
    listed = supplemented(statement.predicate, layers)
    return Statement(statement.predicate_type, listed, statement.subjects)


# --- directories and archives ---------------------------------------------------------------------


async def attestation_files(
    engine: Engine,
    deltas: Sequence[str],
    attestations: Iterable[Attestation],
    *,
    prefix: str = "",
    platform: Platform | None = None,
) -> dict[str, bytes]:
    """Return the files that a directory or an archive of a result gets [OUT-16].

    Args:
        prefix: the beginning of their names.
        platform: becomes part of the names where several share a directory.

    Raises:
        UserError: two of them have the same name.
    """
    chosen = [one for one in core_first(attestations) if not one.inline_only]
    if not chosen:
        return {}
    digests = await engine.read_tree(gathering.digests, deltas)
    subjects = [Subject(path, {"sha256": hex}) for path, hex in digests]
    files: dict[str, bytes] = {}
    for one in chosen:
        name = prefix + posixpath.basename(one.path)
        if platform is not None:
            stem, extension = posixpath.splitext(name)
            name = f"{stem}.{str(platform).replace('/', '_')}{extension}"
        if name in files:
            raise UserError(f"duplicate attestation path name {name}")
        if "/" in name or name in ("", ".", ".."):
            raise UserError(f'attestation path name "{name}": expected a name without directories')
        statement: Statement = await one.statement(subjects)
        files[name] = statement.readable()
    return files


@asynccontextmanager
async def with_files(
    engine: Engine, tree: ExportTree, files: Mapping[str, bytes]
) -> AsyncGenerator[ExportTree]:
    """Give *tree* with *files* at its top."""
    if not files:
        yield tree
        return
    folder = engine.store.scratch("attestations")
    try:
        await asyncio.to_thread(_write_all, folder, files, tree.epoch)
        yield tree._replace(lowers=[*tree.lowers, folder])
    finally:
        await asyncio.to_thread(engine.store.discard, folder)


def _write_all(folder: str, files: Mapping[str, bytes], epoch: int | None) -> None:
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    for name, data in files.items():
        path = os.path.join(folder, name)
        with open(path, "xb") as file:
            file.write(data)
        os.chmod(path, 0o644)
        if epoch is not None:
            os.utime(path, (epoch, epoch))
