"""Base images as far as the store knows them, read without opening it: no network, no lock, no lease.

For checks, which want to be quick. `pybuild.engine.baseimages` finds the same images, and others, for builds.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pybuild.cache.content.resolutions import Resolutions
from pybuild.cache.disk.ownership import is_private
from pybuild.cache.disk.plainfile import plain
from pybuild.frontend.lowering.interface import ImageRequest, ResolvedImage
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    Manifest,
    choose,
    parse_config,
    parse_index,
    parse_manifest,
)
from pybuild.model.descriptor import MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.platform import Platform

_NAME = "io.containerd.image.name"


class KnownImages:
    """The images of the store at *root*, which need not exist; of one that is not ours, none."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._resolutions = Resolutions(root)
        self._is_ours = is_private(root)

    def find(self, request: ImageRequest) -> ResolvedImage | None:
        """Return an image as the store knows it; None when a registry would have to be asked."""
        if request.layout or not self._is_ours:
            return None  # of a layout, the reference is only a name there
        reference, platform = request.reference, request.platform
        for descriptor in (self._named(str(reference)), self._resolutions.get(reference, platform)):
            try:
                image = self._read(descriptor, platform) if descriptor else None
            except (OSError, ValueError, KeyError, TypeError, PybuildError):
                image = None  # damaged or half there: not known, then
            if image is not None:
                return image
        return None

    def _named(self, name: str) -> Descriptor | None:
        """Return the descriptor of the image that the store calls *name*."""
        try:
            with open(os.path.join(self._root, "index.json"), "rb", opener=plain) as file:
                entries: list[dict[str, Any]] = json.load(file)["manifests"]
            for entry in entries:
                if entry.get("annotations", {}).get(_NAME) == name:
                    return Descriptor.from_json(entry)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        return None

    def _read(self, descriptor: Descriptor, platform: Platform) -> ResolvedImage | None:
        if descriptor.media_type not in MANIFEST_TYPES:
            index = parse_index(self._blob(descriptor.digest), descriptor.media_type)
            chosen = choose(index, platform)
            if chosen is None:
                return None
            descriptor = chosen
        manifest = parse_manifest(self._blob(descriptor.digest), descriptor.media_type)
        if not isinstance(manifest, Manifest):
            return None
        config = parse_config(self._blob(manifest.config.digest))
        return ResolvedImage(
            digest=descriptor.digest,
            config=config,
            layer_count=len(manifest.layers),
            platform=Platform.from_json(config),
        )

    def _blob(self, digest: Digest) -> bytes:
        path = os.path.join(self._root, "blobs", digest.algorithm, digest.hex)
        with open(path, "rb", opener=plain) as file:
            data = file.read(MAX_CONFIG_BYTES)
        if Digest.of(data) != digest:
            raise ValueError(f"{path}: damaged")
        return data
