"""Checks of a pushed manifest, before it is believed; pure but for its questions about sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from pybuild.cache.repositories.repositories import ManifestEntry
from pybuild.image.manifest import Index, Manifest, is_foreign, parse_manifest
from pybuild.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.registry.server.refusal import Refusal, RefusalCode

_MANIFESTS = INDEX_TYPES | MANIFEST_TYPES

SizeOf = Callable[[Digest], int | None]
"""Tells the size of a blob, or of a manifest, that the repository has; None: it has not."""


def read(
    data: bytes, content_type: str, expected: Digest | None
) -> tuple[Manifest | Index, ManifestEntry]:
    """Understand a manifest that is pushed as *content_type*.

    Args:
        expected: the digest it is pushed by, if it is.

    Raises:
        Refusal: it is not of a known type, broken, ambiguous, or not what its digest says.
    """
    algorithm = expected.algorithm if expected else "sha256"
    digest = Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    if expected is not None and digest != expected:
        raise Refusal(400, RefusalCode.DIGEST_INVALID, f"the manifest is {digest}, not {expected}")
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        document = parse_manifest(data, media_type)
    except EnvironmentFault as error:
        raise invalid(error.message) from error
    except RecursionError as error:
        raise invalid("it is nested too deeply") from error
    if media_type in _MANIFESTS and media_type != document.media_type:
        raise invalid(f"it is {document.media_type}, but was announced as {media_type}")
    descriptor = Descriptor(document.media_type, digest, len(data), dict(document.annotations))
    subject = document.subject.digest if document.subject else None
    return document, ManifestEntry(
        descriptor=descriptor, artifact_type=artifact_type(document), subject=subject
    )


def artifact_type(document: Manifest | Index) -> str:
    """Return the kind of artifact that a list of referrers shows for it [end-12a]."""
    if isinstance(document, Manifest):
        return document.artifact_type or document.config.media_type
    stated = document.raw.get("artifactType")
    return stated if isinstance(stated, str) else ""


def check_content(document: Manifest | Index, blob_size: SizeOf, manifest_size: SizeOf) -> None:
    """Make sure that all that *document* names is in the repository, in the size it says.

    The subject need not be: it may come later.

    Raises:
        Refusal: something is missing, or has another size.
    """
    for descriptor, what, size_of in _named(document, blob_size, manifest_size):
        size = size_of(descriptor.digest)
        if size is None:
            raise Refusal(
                400,
                RefusalCode.MANIFEST_BLOB_UNKNOWN,
                f"{what} {descriptor.digest} is not in this repository",
            )
        if size != descriptor.size:
            raise invalid(
                f"{what} {descriptor.digest} has {size} bytes, the manifest says {descriptor.size}"
            )


def _named(
    document: Manifest | Index, blob_size: SizeOf, manifest_size: SizeOf
) -> Iterator[tuple[Descriptor, str, SizeOf]]:
    if isinstance(document, Index):
        for child in document.manifests:
            if child.media_type in _MANIFESTS:
                yield child, "manifest", manifest_size
            else:
                yield child, "blob", blob_size
        return
    yield document.config, "config", blob_size
    for layer in document.layers:
        if not is_foreign(layer.media_type):  # these lie elsewhere [IMG-5]
            yield layer, "blob", blob_size


def children(document: Manifest | Index) -> list[Digest]:
    """Return the manifests that *document* lists."""
    if isinstance(document, Manifest):
        return []
    return [child.digest for child in document.manifests if child.media_type in _MANIFESTS]


def invalid(why: str) -> Refusal:
    return Refusal(400, RefusalCode.MANIFEST_INVALID, why)
