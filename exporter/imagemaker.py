"""Makes the layers, config and manifest of one platform's result [OUT-9..15]."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.exporter.annotations import AnnotationPlace, Annotations
from pybuild.exporter.layermaker import LayerMaker, made_at
from pybuild.image.config import EXPORTER_COMMENT, INLINE_CACHE, NewHistory, assemble_config
from pybuild.image.manifest import build_manifest
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts, WrittenLayer

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine
    from pybuild.exporter.built import Built
    from pybuild.exporter.earlypush import PushAhead
    from pybuild.model.span import Span

NO_ANNOTATIONS = Annotations()
REWRITTEN = "buildkit/rewritten-timestamp"


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """One platform's finished image; its blobs are in the store.

    Attributes:
        lines: the instructions that made its layers, as far as they are of this build.
    """

    manifest: Descriptor
    config: Descriptor
    lines: Mapping[Digest, Span] = field(default_factory=dict[Digest, "Span"])


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
        force: bool = False,
        annotations: Annotations = NO_ANNOTATIONS,
        ahead: PushAhead | None = None,
    ) -> None:
        self._annotations = annotations
        self._epoch = epoch
        self._rewrite = rewrite
        self._engine = engine
        self._store = engine.store
        self._built = built
        self._oci_types = oci_types
        self._layers = LayerMaker(engine, compression, level, force=force, ahead=ahead)

    async def make(self) -> FinishedImage:
        """Write the missing blobs and return the image."""
        lowered, deltas = self._built.lowered, self._built.snapshot.deltas
        base = lowered.base_layer_count
        if base < 0:
            base = len(deltas) - sum(1 for item in lowered.history if item.vertex is not None)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._layers.make(delta) if at < base else self._new_layer(at))
                for at, delta in enumerate(deltas)
            ]
        layers = [task.result() for task in tasks]
        inherited = {name: value for name, value in lowered.config.items() if name != INLINE_CACHE}
        config = assemble_config(
            {**inherited, **self._inline([diff_id for diff_id, _ in layers])},
            [diff_id for diff_id, _ in layers],
            self._history(deltas[base:]),
            base_layer_count=base,
            epoch=self._epoch,
        )
        config_type = OCI_CONFIG if self._oci_types else DOCKER_CONFIG
        config_digest = await asyncio.to_thread(self._store.blobs.put, config)
        config_descriptor = Descriptor(config_type, config_digest, len(config))
        media_type = OCI_MANIFEST if self._oci_types else DOCKER_MANIFEST
        platform, notes = lowered.platform, self._annotations
        data = build_manifest(
            config_descriptor,
            [layer for _, layer in layers],
            media_type,
            annotations=notes.of(AnnotationPlace.MANIFEST, platform),
        )
        digest = await asyncio.to_thread(self._store.blobs.put, data)
        beside = notes.of(AnnotationPlace.MANIFEST_DESCRIPTOR, platform)
        manifest = Descriptor(media_type, digest, len(data), beside, platform)
        return FinishedImage(manifest, config_descriptor, self._lines(layers[base:]))

    def _lines(self, layers: Sequence[tuple[Digest, Descriptor]]) -> dict[Digest, Span]:
        """Return the instructions of *layers*, which this build added."""
        vertices = [item.vertex for item in self._built.lowered.history if item.vertex is not None]
        return {
            layer.digest: vertex.meta.spans[0]
            for (_, layer), vertex in zip(layers, vertices, strict=False)
            if vertex.meta.spans
        }

    def _inline(self, diff_ids: Sequence[Digest]) -> dict[str, str]:
        """Return the cache that the config carries, as its field [CCH-1]."""
        inline = self._built.inline_cache
        if inline is None:
            return {}
        text = inline(dict(zip(self._built.snapshot.deltas, diff_ids, strict=True)))
        return {INLINE_CACHE: text} if text else {}

    def _history(self, deltas: Sequence[str]) -> list[NewHistory]:
        """The entries of *deltas*, which this build added; SOURCE_DATE_EPOCH is their time."""
        fixed = self._built.lowered.epoch
        made = iter([made_at(self._store, delta) for delta in deltas])
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
        for created in made:  # of a definition that says nothing of its steps
            entries.append(NewHistory(created_by="", created=created, comment=EXPORTER_COMMENT))
        return entries

    async def _new_layer(self, at: int) -> tuple[Digest, Descriptor]:
        """The layer *at* that the base image does not have; its times are clamped [REP-3]."""
        deltas = self._built.snapshot.deltas
        delta = deltas[at]
        if not self._rewrite or self._epoch is None:
            return await self._layers.make(delta)
        store, epoch = self._store, self._epoch
        facts = await asyncio.to_thread(layer_facts, store.records, delta) or LayerFacts()
        kind = f"{self._layers.kind}-{epoch}"
        known = facts.rewritten.get(kind)
        if known is not None and known.diff_id is not None:
            layer = known.descriptor
            await asyncio.to_thread(store.lease.add, "blob", layer.digest)
            if store.blobs.holds(layer):
                return known.diff_id, self._noted(layer)
        if not store.deltas.has(delta):
            await self._engine.layers().ensure(deltas[: at + 1], lambda event: None)
        diff_id, made = await self._layers.write(delta, epoch)
        rewritten = {**facts.rewritten, kind: WrittenLayer(made, diff_id)}
        facts = replace(facts, rewritten=rewritten)
        await asyncio.to_thread(keep_layer, store.records, delta, facts)
        return diff_id, self._noted(made)

    def _noted(self, layer: Descriptor) -> Descriptor:
        """*layer* with the note that its times were clamped; Docker's types have no place for it."""
        notes = {**layer.annotations, REWRITTEN: str(self._epoch)} if self._oci_types else {}
        return replace(layer, annotations=notes)
