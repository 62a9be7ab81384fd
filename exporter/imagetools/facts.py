"""The facts of ``imagetools inspect`` about an image that is somewhere else [CMD-8]."""

from __future__ import annotations

import json
from typing import Any

from pybuild.exporter.imagetools.place import ImagePlace
from pybuild.image.attestation import PREDICATE_TYPE, REFERENCE_DIGEST, SPDX
from pybuild.image.manifest import Index, Manifest, parse_config, parse_manifest
from pybuild.model.descriptor import Descriptor
from pybuild.model.errors import EnvironmentFault

_PROVENANCE = "https://slsa.dev/provenance/"


async def facts(place: ImagePlace) -> dict[str, Any]:
    """Return ``name``, ``manifest``, ``image``, ``provenance`` and ``sbom``.

    The last three are those of the only image, or objects of them by platform.
    """
    root, data = await place.root()
    document = parse_manifest(data, root.media_type)
    body: dict[str, Any] = json.loads(data)
    manifest = {**root.to_json(), **{k: v for k, v in body.items() if k != "mediaType"}}
    facts: dict[str, Any] = {"name": place.name, "manifest": manifest}
    images: dict[str, Any] = {}
    attested: dict[str, dict[str, Any]] = {"provenance": {}, "sbom": {}}
    if isinstance(document, Manifest):
        facts["image"] = parse_config(await place.document(document.config))
        return {**facts, "provenance": {}, "sbom": {}}
    names = _platforms(document)
    for child in document.manifests:
        about = child.annotations.get(REFERENCE_DIGEST)
        below = parse_manifest(await place.document(child), child.media_type)
        if not isinstance(below, Manifest):
            continue
        if about:
            await _attested(place, below, names.get(about, about), attested)
        elif child.platform is not None:
            config = await place.document(below.config)
            images[str(child.platform)] = parse_config(config)
    facts["image"] = _lone(images)
    return {**facts, **{kind: _lone(values) for kind, values in attested.items()}}


def _platforms(index: Index) -> dict[str, str]:
    return {str(child.digest): str(child.platform) for child in index.manifests if child.platform}


def _lone(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


async def _attested(
    place: ImagePlace, manifest: Manifest, platform: str, attested: dict[str, dict[str, Any]]
) -> None:
    for layer in manifest.layers:
        kind = layer.annotations.get(PREDICATE_TYPE, "")
        if kind.startswith(_PROVENANCE):
            attested["provenance"].setdefault(platform, {})["SLSA"] = await _predicate(place, layer)
        elif kind == SPDX:
            attested["sbom"].setdefault(platform, {})["SPDX"] = await _predicate(place, layer)


async def _predicate(place: ImagePlace, layer: Descriptor) -> Any:
    try:
        statement = json.loads(await place.document(layer))
        return statement["predicate"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise EnvironmentFault(f"{place.name}: attestation {layer.digest} is broken") from error
