"""The repositories known to have a blob, from which registries can mount it [OUT-12, REG-12]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.layers import delta_of_layer, layer_facts
from pybuild.cache.records.results import PUSHED
from pybuild.image.manifest import Index, diff_ids_of, parse_config, parse_manifest
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store

_MOST_PLACES = 8  # the newest; a place that lost the blob costs a request


def known_places(store: Store, descriptor: Descriptor) -> dict[Digest, list[str]]:
    """Repositories (``host/path``) by layer of an image or index, the likeliest first.

    Those that a layer was pulled from, and those that it was pushed to.
    """
    places: dict[Digest, list[str]] = {}
    for layer, diff_id in _layers(store, descriptor):
        facts = layer_facts(store.records, delta_of_layer(diff_id))
        pulled = "" if facts is None else facts.reference
        repositories = [Reference.parse(pulled).repository] if pulled else []
        repositories += _pushed(store, layer)
        if repositories:
            places[layer.digest] = list(dict.fromkeys(repositories))
    return places


def note_pushed(store: Store, descriptor: Descriptor, names: Sequence[Reference]) -> None:
    """Remember that the repositories of *names* have every layer of an image or index."""
    fresh = [name.repository for name in names]
    for layer, _ in _layers(store, descriptor):
        before = _pushed(store, layer)
        after = list(dict.fromkeys([*fresh, *before]))[:_MOST_PLACES]
        if after != before:
            store.records.put(PUSHED, layer.digest, {"repositories": after})


def _pushed(store: Store, layer: Descriptor) -> list[str]:
    facts = store.records.get(PUSHED, layer.digest) or {}
    return [str(place) for place in facts.get("repositories", ())]


def _layers(store: Store, descriptor: Descriptor) -> Iterator[tuple[Descriptor, Digest]]:
    """Each layer with its diffID."""
    document = parse_manifest(store.blobs.read(descriptor.digest), descriptor.media_type)
    if isinstance(document, Index):
        for child in document.manifests:
            if store.blobs.has(child.digest):
                yield from _layers(store, child)
        return
    config = parse_config(store.blobs.read(document.config.digest))
    diff_ids = [Digest.parse(text) for text in diff_ids_of(config)]
    yield from zip(document.layers, diff_ids, strict=False)
