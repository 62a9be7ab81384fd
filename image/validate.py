"""Checks a whole image by recomputing everything that can be recomputed.

What is wrong is returned, all of it, never raised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, BinaryIO

from pybuild.image.layer.compression import GZIP, UNCOMPRESSED, ZSTD, LayerSource
from pybuild.image.layer.tarreader import TarReader
from pybuild.image.manifest import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    MAX_MANIFEST_BYTES,
    Index,
    Manifest,
    diff_ids_of,
    is_foreign,
    parse_config,
    parse_manifest,
)
from pybuild.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, OCI_CONFIG, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError

BlobSource = Callable[[Digest], BinaryIO]
_SUFFIXES = {GZIP: ("gzip",), ZSTD: ("zstd",), UNCOMPRESSED: (".tar", "diff.tar")}


def validate_image(open_blob: BlobSource, descriptor: Descriptor) -> list[str]:
    """Return the faults of an image or index and of all below it; an empty list: none.

    Args:
        open_blob: opens a blob; FileNotFoundError: there is none.
    """
    check = _Check(open_blob)
    check.document(descriptor, MAX_DEPTH)
    return check.problems


class _Check:
    def __init__(self, open_blob: BlobSource) -> None:
        self._open = open_blob
        self.problems: list[str] = []

    def _complain(self, problem: str) -> None:
        self.problems.append(problem)

    def document(self, descriptor: Descriptor, depth: int) -> None:
        if depth == 0:
            self._complain(f"{descriptor.digest}: indexes are nested more than {MAX_DEPTH} deep")
            return
        if descriptor.media_type not in INDEX_TYPES | MANIFEST_TYPES:
            self._complain(f"{descriptor.digest}: unknown media type {descriptor.media_type}")
        data = self._read(descriptor, MAX_MANIFEST_BYTES)
        if data is None:
            return
        try:
            document = parse_manifest(data, descriptor.media_type)
        except PybuildError as error:
            self._complain(f"{descriptor.digest}: {error.message}")
            return
        if isinstance(document, Index):
            for entry in document.manifests:
                self.document(entry, depth - 1)
            return
        if not document.artifact_type:
            self._image(descriptor, document)

    def _image(self, descriptor: Descriptor, manifest: Manifest) -> None:
        where = descriptor.digest
        is_oci = "oci" in manifest.media_type
        if (manifest.config.media_type == OCI_CONFIG) != is_oci:
            self._complain(f"{where}: config type {manifest.config.media_type} of another family")
        for layer in manifest.layers:
            if ("vnd.oci." in layer.media_type) != is_oci:
                self._complain(f"{where}: layer type {layer.media_type} of another family")
        data = self._read(manifest.config, MAX_CONFIG_BYTES)
        if data is None:
            return
        try:
            config = parse_config(data)
        except PybuildError as error:
            self._complain(f"{manifest.config.digest}: {error.message}")
            return
        self._config(manifest, config)
        diff_ids = diff_ids_of(config)
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=False):
            self._layer(layer, str(diff_id))

    def _config(self, manifest: Manifest, config: dict[str, Any]) -> None:
        where = manifest.config.digest
        for name in ("os", "architecture"):
            if not config.get(name):
                self._complain(f"{where}: {name} is missing")
        rootfs: dict[str, Any] = config.get("rootfs") or {}
        if rootfs.get("type") != "layers":
            self._complain(f"{where}: rootfs type {rootfs.get('type')!r}, expected 'layers'")
        diff_ids = diff_ids_of(config)
        if len(diff_ids) != len(manifest.layers):
            self._complain(f"{where}: {len(diff_ids)} diff_ids for {len(manifest.layers)} layers")
        history: list[Any] = config.get("history") or []
        full = sum(1 for entry in history if not _is_empty(entry))
        if history and full != len(manifest.layers):
            self._complain(f"{where}: {full} history entries for {len(manifest.layers)} layers")

    def _layer(self, layer: Descriptor, diff_id: str) -> None:
        """Check a layer's digests and size, that it is a tar, and that its type says how packed."""
        try:
            with self._open(layer.digest) as file:
                source = LayerSource(file.read)
                reader = TarReader(source.read)
                while reader.next() is not None:
                    pass
                source.drain()
        except FileNotFoundError:
            if not is_foreign(layer.media_type):
                self._complain(f"{layer.digest}: missing")
            return
        except PybuildError as error:
            self._complain(f"{layer.digest}: {error.message}")
            return
        if source.digest != layer.digest and layer.digest.algorithm == "sha256":
            self._complain(f"{layer.digest}: content has the digest {source.digest}")
        if source.compressed_size != layer.size:
            self._complain(f"{layer.digest}: {source.compressed_size} bytes, expected {layer.size}")
        if source.diff_id != diff_id:
            self._complain(f"{layer.digest}: diffID {source.diff_id}, the config says {diff_id}")
        if not layer.media_type.endswith(_SUFFIXES[source.compression]):
            self._complain(f"{layer.digest}: {source.compression} data as {layer.media_type}")

    def _read(self, descriptor: Descriptor, limit: int) -> bytes | None:
        if descriptor.size > limit:
            self._complain(f"{descriptor.digest}: {descriptor.size} bytes, more than {limit}")
            return None
        try:
            with self._open(descriptor.digest) as file:
                data = file.read(descriptor.size + 1)
        except FileNotFoundError:
            self._complain(f"{descriptor.digest}: missing")
            return None
        if len(data) != descriptor.size:
            self._complain(f"{descriptor.digest}: not the {descriptor.size} bytes expected")
            return None
        actual = hashlib.new(descriptor.digest.algorithm, data).hexdigest()
        if actual != descriptor.digest.hex:
            self._complain(f"{descriptor.digest}: content has the digest {actual}")
            return None
        return data


def _is_empty(entry: Any) -> bool:
    return isinstance(entry, dict) and bool(entry.get("empty_layer"))  # pyright: ignore
