"""The layers of images, and the repositories known to have them, to mount from [OUT-12, REG-12]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pybuild.cache.records.layers import delta_of_layer, layer_facts
from pybuild.cache.records.results import PUSHED
from pybuild.image.manifest import Index, diff_ids_of, parse_config, parse_manifest
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.jsontext import as_list, as_object
from pybuild.model.reference import Reference

if TYPE_CHECKING:
    from pybuild.cache.store import Store

_MOST_PLACES = 8  # the newest; a place that lost the blob costs a request


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLayer:
    """A layer in an image.

    Attributes:
        number: from 1, the base's first, of *count*.
        instruction: the entry of the image's history; empty if that does not fit the layers.
    """

    blob: Descriptor
    diff_id: Digest
    number: int
    count: int
    instruction: str


def known_places(store: Store, descriptor: Descriptor) -> dict[Digest, list[str]]:
    """Repositories (``host/path``) by layer of an image or index, the likeliest first.

    Those that a layer was pulled from, and those that it was pushed to.
    """
    places: dict[Digest, list[str]] = {}
    for layer in image_layers(store, descriptor):
        facts = layer_facts(store.records, delta_of_layer(layer.diff_id))
        pulled = "" if facts is None else facts.reference
        repositories = [Reference.parse(pulled).repository] if pulled else []
        repositories += _pushed(store, layer.blob)
        if repositories:
            places[layer.blob.digest] = list(dict.fromkeys(repositories))
    return places


def note_pushed(store: Store, descriptor: Descriptor, names: Sequence[Reference]) -> None:
    """Remember that the repositories of *names* have every layer of an image or index."""
    fresh = [name.repository for name in names]
    for layer in image_layers(store, descriptor):
        before = _pushed(store, layer.blob)
        after = list(dict.fromkeys([*fresh, *before]))[:_MOST_PLACES]
        if after != before:
            store.records.put(PUSHED, layer.blob.digest, {"repositories": after})


def _pushed(store: Store, layer: Descriptor) -> list[str]:
    facts = store.records.get(PUSHED, layer.digest) or {}
    return [str(place) for place in facts.get("repositories", ())]


def image_layers(store: Store, descriptor: Descriptor) -> Iterator[ImageLayer]:
    """Yield the layers of an image, or of those images of an index that are here."""
    document = parse_manifest(store.blobs.read(descriptor.digest), descriptor.media_type)
    if isinstance(document, Index):
        for child in document.manifests:
            if store.blobs.has(child.digest):
                yield from image_layers(store, child)
        return
    config = parse_config(store.blobs.read(document.config.digest))
    entries = [as_object(entry) for entry in as_list(config.get("history"))]
    texts = [str(one.get("created_by") or "") for one in entries if not one.get("empty_layer")]
    count = len(document.layers)
    if len(texts) != count:
        texts = [""] * count
    diff_ids = [Digest.parse(text) for text in diff_ids_of(config)]
    for at, (layer, diff_id) in enumerate(zip(document.layers, diff_ids, strict=False)):
        yield ImageLayer(
            blob=layer, diff_id=diff_id, number=at + 1, count=count, instruction=texts[at]
        )
