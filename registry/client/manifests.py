"""Checks of a manifest's bytes, before anybody believes them [REG-11, REG-14, DST-2]; pure."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from pybuild.model import jsontext
from pybuild.model.descriptor import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.net.http1.faults import printable
from pybuild.registry.client.faults import ContentFault

ACCEPT = ", ".join(
    [OCI_INDEX, OCI_MANIFEST, *sorted((INDEX_TYPES | MANIFEST_TYPES) - {OCI_INDEX, OCI_MANIFEST})]
)
"""Newest formats first: some registries convert to the first that they can [REG-11]."""

LIMIT_BYTES = 8 << 20
"""The longest manifest or index we take; registries take 4 MiB [end-7a]."""

_KNOWN = INDEX_TYPES | MANIFEST_TYPES
_SCHEMA_1 = frozenset(
    (
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    )
)


def is_manifest_type(media_type: str) -> bool:
    return media_type in _KNOWN


def is_distributable(media_type: str) -> bool:
    """Whether a layer may be stored in any registry [IMG-5]."""
    return ".nondistributable." not in media_type and ".foreign." not in media_type


def refuse_schema_1(name: str, media_type: str) -> None:
    """Raises UserError for the retired formats [REG-14]."""
    if media_type in _SCHEMA_1:
        raise UserError(
            f"{name}: the image is stored in the retired schema 1 manifest format",
            hints=["push it again with a current tool"],
        )


def media_type_of(name: str, content_type: str, data: bytes) -> str:
    """Return the media type of *data*, which came as *content_type* for *name*.

    Bytes that could be read as two things are refused, so that no two programs can see different
    images behind one digest (CVE-2021-41190).

    Raises:
        UserError: a format that is not served any more.
        ContentFault: not a manifest, or one that contradicts itself.
    """
    refuse_schema_1(name, content_type)
    value = parse_object(name, data)
    inner = value.get("mediaType")
    if inner is not None and not isinstance(inner, str):
        raise ContentFault(f"{name}: mediaType is not a text")
    if value.get("schemaVersion") == 1:
        refuse_schema_1(name, min(_SCHEMA_1))
    if inner:
        refuse_schema_1(name, inner)
    has_manifests, has_layers = "manifests" in value, "layers" in value or "config" in value
    if has_manifests and has_layers:
        raise ContentFault(f"{name}: is both an index and a manifest")
    outer = content_type if content_type in _KNOWN else ""
    if inner and outer and inner != outer:
        raise ContentFault(
            f'{name}: is served as "{printable(outer)}" but calls itself "{printable(inner)}"'
        )
    media_type = inner or outer
    if not media_type and value.get("schemaVersion") == 2:
        media_type = OCI_INDEX if has_manifests else OCI_MANIFEST if has_layers else ""
    if media_type not in _KNOWN:
        text = printable(media_type or content_type, 100)
        raise ContentFault(f'{name}: media type "{text}" is not an image or an index')
    if has_manifests != (media_type in INDEX_TYPES):
        raise ContentFault(f'{name}: its content does not fit media type "{media_type}"')
    return media_type


def verify(name: str, data: bytes, expected: Digest, size: int | None = None) -> None:
    """Raises ContentFault when *data* has another digest than *expected* or another size."""
    got = digest_like(expected, data)
    if got != expected or (size is not None and size != len(data)):
        whole = len(data) if size is None else size
        raise ContentFault(f"{name} {expected}: got {got} after {len(data)} of {whole} bytes")


def digest_like(model: Digest, data: bytes) -> Digest:
    """The digest of *data* by the algorithm of *model*."""
    return Digest(f"{model.algorithm}:{hashlib.new(model.algorithm, data).hexdigest()}")


def children(name: str, data: bytes) -> list[Descriptor]:
    """The manifests an index lists, in order.

    Raises:
        ContentFault: malformed.
    """
    return _descriptors(name, parse_object(name, data).get("manifests"), "manifests")


def parts(name: str, data: bytes) -> tuple[Descriptor, list[Descriptor]]:
    """Config and layers of a manifest, base first.

    Raises:
        ContentFault: malformed.
    """
    value = parse_object(name, data)
    [config] = _descriptors(name, [value.get("config")], "config")
    return config, _descriptors(name, value.get("layers"), "layers")


def tag_names(name: str, data: bytes) -> list[str]:
    """The tags of one page of a tag list [end-8].

    Raises:
        ContentFault: malformed.
    """
    return _texts(name, data, "tags")  # an empty repository has null there


def repository_names(name: str, data: bytes) -> list[str]:
    """The repositories of one page of a catalogue.

    Raises:
        ContentFault: malformed.
    """
    return _texts(name, data, "repositories")


def _texts(name: str, data: bytes, key: str) -> list[str]:
    value = parse_object(name, data).get(key)
    if value is None:
        return []
    items = cast("list[object]", value) if isinstance(value, list) else [None]
    texts = [printable(item) for item in items if isinstance(item, str)]
    if len(texts) != len(items):
        raise ContentFault(f"{name}: {key} is not a list of texts")
    return texts


def _descriptors(name: str, values: object, key: str) -> list[Descriptor]:
    if not isinstance(values, list):
        raise ContentFault(f"{name}: {key} is not a list")
    try:
        return [Descriptor.from_json(value) for value in cast("list[object]", values)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentFault(f"{name}: {key}: {printable(str(error))}") from error


def parse_object(name: str, data: bytes) -> dict[str, Any]:
    """Read a JSON object; *name* is the document's, for errors.

    Raises:
        ContentFault: it is none.
    """
    try:
        value = jsontext.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ContentFault(f"{name}: is not a JSON object")
    return cast("dict[str, Any]", value)
