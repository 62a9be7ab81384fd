"""Makes the layers, config and manifest of one platform's result [OUT-9..15]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pybuild.executor.layers import MADE_FROM
from pybuild.image.config import NewHistory, assemble_config
from pybuild.image.manifest import build_manifest, layer_media_type
from pybuild.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest

if TYPE_CHECKING:
    from pybuild.engine import Engine
    from pybuild.export import Built

REWRITTEN = "buildkit/rewritten-timestamp"


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's finished image; its blobs are in the store."""

    manifest: Descriptor
    config: Descriptor


class ImageMaker:
    """Makes the layers, config and manifest of one platform's result."""

    def __init__(
        self,
        engine: Engine,
        built: Built,
        oci_types: bool,
        compression: str,
        level: int | None,
        *,
        epoch: int | None = None,
        rewrite: bool = False,
    ) -> None:
        self._epoch = epoch
        self._rewrite = rewrite
        self._engine = engine
        self._store = engine.store
        self._built = built
        self._oci_types = oci_types
        self._compression = compression
        self._level = level

    async def make(self) -> Image:
        """Write what is missing and return the image."""
        lowered, deltas = self._built.lowered, self._built.snapshot.deltas
        base = lowered.base_layer_count
        if base < 0:
            base = len(deltas) - sum(1 for item in lowered.history if item.vertex is not None)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._layer(delta) if at < base else self._new_layer(at))
                for at, delta in enumerate(deltas)
            ]
        layers = [task.result() for task in tasks]
        config = assemble_config(
            lowered.config,
            [diff_id for diff_id, _ in layers],
            self._history(deltas[base:]),
            base_layer_count=base,
            epoch=self._epoch,
        )
        config_type = OCI_CONFIG if self._oci_types else DOCKER_CONFIG
        config_digest = await asyncio.to_thread(self._store.blobs.put, config)
        config_descriptor = Descriptor(config_type, config_digest, len(config))
        media_type = OCI_MANIFEST if self._oci_types else DOCKER_MANIFEST
        data = build_manifest(config_descriptor, [layer for _, layer in layers], media_type)
        digest = await asyncio.to_thread(self._store.blobs.put, data)
        manifest = Descriptor(media_type, digest, len(data), platform=lowered.platform)
        return Image(manifest, config_descriptor)

    def _history(self, deltas: Sequence[str]) -> list[NewHistory]:
        """The entries of *deltas*, which this build added; SOURCE_DATE_EPOCH is their time."""
        fixed = self._built.lowered.epoch
        made = iter([float(self._store.deltas.meta(d).get("created", 0.0)) for d in deltas])
        entries: list[NewHistory] = []
        for item in self._built.lowered.history:
            created: float | str | None = None if item.vertex is None else next(made)
            if item.created:
                created = item.created
            elif fixed is not None:
                created = fixed
            entries.append(
                NewHistory(
                    created_by=item.created_by,
                    created=created,
                    empty_layer=item.vertex is None,
                    comment=item.comment,
                    author=item.author,
                )
            )
        return entries

    async def _new_layer(self, at: int) -> tuple[Digest, Descriptor]:
        """The layer *at* that the base image does not have; its times are clamped [REP-3]."""
        deltas = self._built.snapshot.deltas
        delta = deltas[at]
        if not self._rewrite or self._epoch is None:
            return await self._layer(delta)
        store, epoch = self._store, self._epoch
        facts = await asyncio.to_thread(store.records.get, "layer", delta) or {}
        kind = f"{self._compression}-{self._level}-{epoch}"
        known: dict[str, Any] = facts.get("rewritten") or {}
        if kind in known:
            found = Descriptor.from_json(known[kind])
            if store.blobs.holds(found):
                return Digest.parse(known[kind]["diff_id"]), self._noted(found)
        if not store.deltas.has(delta):
            await self._engine.layers().ensure(deltas[: at + 1], lambda event: None)
        diff_id, made = await self._write(delta, epoch)
        known[kind] = {**made.to_json(), "diff_id": diff_id}
        await asyncio.to_thread(store.records.put, "layer", delta, {**facts, "rewritten": known})
        return diff_id, self._noted(made)

    def _noted(self, layer: Descriptor) -> Descriptor:
        """*layer* with what says that its times were clamped; Docker's types have no place for it."""
        notes = {REWRITTEN: str(self._epoch)} if self._oci_types else {}
        return replace(layer, annotations=notes)

    async def _layer(self, delta: str) -> tuple[Digest, Descriptor]:
        """The diffID and blob of one delta; made if there is none in the wanted compression."""
        store = self._store
        facts = await asyncio.to_thread(store.records.get, "layer", delta)
        if facts is not None and "descriptor" in facts:
            # A pulled layer keeps its bytes, whatever the compression: its digest is untouched.
            await self._engine.images.fetch(delta, lambda event: None)
            return Digest.parse(facts["diff_id"]), Descriptor.from_json(facts["descriptor"])
        kind = f"{self._compression}-{self._level}"
        made = (facts or {}).get("blobs", {}).get(kind)
        if facts is not None and made is not None:
            descriptor = Descriptor.from_json(made)
            if store.blobs.holds(descriptor):
                return Digest.parse(facts["diff_id"]), descriptor
        diff_id, descriptor = await self._write(delta, None)
        blobs = {**(facts or {}).get("blobs", {}), kind: descriptor.to_json()}
        record = {**(facts or {}), "diff_id": diff_id, "blobs": blobs}
        await asyncio.to_thread(store.records.put, "layer", delta, record)
        await asyncio.to_thread(store.records.put, MADE_FROM, diff_id, {"delta": delta})
        return diff_id, descriptor

    async def _write(self, delta: str, clamp: int | None) -> tuple[Digest, Descriptor]:
        """Write a delta's layer as a blob; later times become *clamp*."""
        store = self._store
        out = store.scratch("layer")
        try:
            answer = await self._engine.workers.call(
                "pybuild.image.layertar:layer_job",
                {
                    "path": store.deltas.path(delta),
                    "out": out,
                    "compression": self._compression,
                    "level": self._level,
                    "userxattr": await self._engine.userxattr(),
                    "clamp_mtime": clamp,
                },
            )
            digest = Digest.parse(answer["digest"])
            size = int(answer["size"])
            await asyncio.to_thread(store.blobs.adopt, out, digest, size)
        except BaseException:
            store.discard(out)
            raise
        descriptor = Descriptor(layer_media_type(self._compression), digest, size)
        return Digest.parse(answer["diff_id"]), descriptor
