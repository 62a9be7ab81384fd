"""Manifests and indexes: made with a fixed field order, read with suspicion [IMG-1..7, IMG-20, IMG-22]."""

from __future__ import annotations

from pybuild.image.config import encode
from pybuild.model import jsontext
from pybuild.model.dataclass import dataclass, field
from pybuild.model.descriptor import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
)
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.platform import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


MAX_MANIFEST_BYTES = 4 << 20  # what registries accept
MAX_CONFIG_BYTES = 8 << 20
MAX_ENTRIES = 4096
MAX_DEPTH = 4
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
BASE_DIGEST = "org.opencontainers.image.base.digest"
"""The annotation with the digest of the manifest that an image was made of."""
_EMPTY_DATA = "e30="  # {} in base64
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
_FOREIGN = ("nondistributable", ".foreign.")
_TO_DOCKER = {
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
    OCI_LAYER_ZSTD: "application/vnd.docker.image.rootfs.diff.tar.zstd",
}
_TO_OCI = {docker: oci for oci, docker in _TO_DOCKER.items()}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One platform's image, or an artifact.

    Attributes:
        raw: the document as it came, for fields that have no place here.
    """

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    subject: Descriptor | None = None
    artifact_type: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict[str, object], hash=False, compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, in order of preference."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    subject: Descriptor | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, object], hash=False, compare=False)


def layer_media_type(compression: str) -> str:
    """Return OCI's media type of a layer compressed by ``gzip``, ``estargz``, ``zstd`` or not."""
    return {
        "gzip": OCI_LAYER_GZIP,
        "estargz": OCI_LAYER_GZIP,
        "zstd": OCI_LAYER_ZSTD,
        "uncompressed": OCI_LAYER,
    }[compression]


def docker_layer_type(media_type: str) -> str:
    """Return Docker's type for a layer of either kind."""
    return _TO_DOCKER.get(media_type, media_type)


def oci_layer_type(media_type: str) -> str:
    """Return OCI's type for a layer of either kind; unknown types stay as they are."""
    return _TO_OCI.get(media_type, media_type)


def is_foreign(media_type: str) -> bool:
    """Return whether a layer is one that may not be pushed [IMG-5]."""
    return any(mark in media_type for mark in _FOREIGN)


def build_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    media_type: str = OCI_MANIFEST,
    *,
    annotations: Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
) -> bytes:
    """Return the bytes of a manifest; its config and layers get the types of its family.

    Raises:
        ValueError: annotations or a subject in a Docker manifest.
    """
    docker = _is_docker(media_type, MANIFEST_TYPES, annotations, subject or artifact_type)
    convert = docker_layer_type if docker else oci_layer_type
    config_type = config.media_type
    if config_type in (OCI_CONFIG, DOCKER_CONFIG):
        config_type = DOCKER_CONFIG if docker else OCI_CONFIG
    body: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type:
        body["artifactType"] = artifact_type
    body["config"] = {**config.to_json(), "mediaType": config_type}
    if config_type == OCI_EMPTY:  # as the image specification has it whole
        body["config"]["data"] = _EMPTY_DATA
    body["layers"] = [
        {**layer.to_json(), "mediaType": convert(layer.media_type)} for layer in layers
    ]
    return encode(_finish(body, annotations, subject))


def build_index(
    manifests: Sequence[Descriptor],
    media_type: str = OCI_INDEX,
    *,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of an index.

    Raises:
        ValueError: annotations in a Docker manifest list.
    """
    _is_docker(media_type, INDEX_TYPES, annotations, None)
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry.to_json() for entry in manifests],
    }
    return encode(_finish(body, annotations, None))


def _is_docker(
    media_type: str, allowed: frozenset[str], annotations: object, reference: object
) -> bool:
    if media_type not in allowed:
        raise ValueError(f"media type {media_type}: expected one of {', '.join(sorted(allowed))}")
    docker = media_type in (DOCKER_MANIFEST, DOCKER_INDEX)
    if docker and (annotations or reference):
        raise ValueError("annotations and subjects need OCI media types")
    return docker


def parse_index(data: bytes, media_type: str = "") -> Index:
    """Read an index; what else `parse_manifest` would take is refused.

    Raises:
        EnvironmentFault: not an index, or broken.
    """
    document = parse_manifest(data, media_type)
    if not isinstance(document, Index):
        raise EnvironmentFault(f"expected an index, got {document.media_type}")
    return document


def parse_manifest(data: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or index.

    Args:
        media_type: as the descriptor or the server has it; the document's own must agree.

    Raises:
        EnvironmentFault: not one of the known kinds, schema 1, too large, or broken.
    """
    body = parse_object(data, "manifest", MAX_MANIFEST_BYTES)
    own = body.get("mediaType")
    if _SCHEMA1 in media_type or (isinstance(own, str) and _SCHEMA1 in own):
        raise _schema1()
    version = body.get("schemaVersion")
    if version == 1:
        raise _schema1()
    if version not in (2, 0, None):  # Go's programs write none at times, and take it for 2
        raise EnvironmentFault(f"manifest has the schema version {version!r}, expected 2")
    if own is not None and not isinstance(own, str):
        raise EnvironmentFault("manifest has a media type that is no text")
    announced = media_type if media_type in INDEX_TYPES | MANIFEST_TYPES else ""
    if own and announced and own != announced:
        raise EnvironmentFault(f"manifest says it is {own}, but was announced as {announced}")
    has_layers, has_manifests = "layers" in body, "manifests" in body
    # One document that reads as both has two meanings (CVE-2021-41190).
    if has_layers == has_manifests or (has_manifests and "config" in body):
        raise EnvironmentFault("manifest must have either layers or manifests")
    kind = own or announced or (OCI_INDEX if has_manifests else OCI_MANIFEST)
    if kind not in (INDEX_TYPES if has_manifests else MANIFEST_TYPES):
        raise EnvironmentFault(f"unsupported manifest type {kind!r}")
    try:
        subject = Descriptor.from_json(body["subject"]) if body.get("subject") else None
        notes = _annotations(body)
        if has_manifests:
            return Index(kind, _descriptors(body, "manifests"), notes, subject, body)
        return Manifest(
            kind,
            Descriptor.from_json(body.get("config")),
            _descriptors(body, "layers"),
            notes,
            subject,
            str(body.get("artifactType") or ""),
            body,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise EnvironmentFault(f"broken manifest: {error}") from error


def parse_object(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """Read a JSON object of at most *limit* bytes.

    Raises:
        EnvironmentFault: longer, or not such an object.
    """
    if len(data) > limit:
        raise EnvironmentFault(f"{what} has {len(data)} bytes, more than {limit}")
    try:
        value = jsontext.loads(data)
    except (ValueError, RecursionError) as error:
        raise EnvironmentFault(f"{what} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise EnvironmentFault(f"{what} is not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]


_TEXT_LISTS = ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")
_TEXTS = ("User", "WorkingDir", "StopSignal")
_MAPS = ("Labels", "Volumes", "ExposedPorts")


def parse_config(data: bytes) -> dict[str, Any]:
    """Read an image config; the fields that others rely on have their types, or are null.

    Raises:
        EnvironmentFault: broken.
    """
    body = parse_object(data, "image config", MAX_CONFIG_BYTES)
    _typed(body, ("config", "rootfs"), dict, "")
    _typed(body, ("history",), list, "")
    _typed(body, ("os", "architecture", "variant"), str, "")
    _text_list(body.get("rootfs") or {}, "diff_ids")
    try:
        for diff_id in diff_ids_of(body):
            Digest.parse(diff_id)
    except ValueError as error:
        raise EnvironmentFault(f"image config has broken diff_ids: {error}") from error
    config: dict[str, Any] = body.get("config") or {}
    _typed(config, _TEXTS, str, "config.")
    _typed(config, _MAPS, dict, "config.")
    for name in _TEXTS:
        if "\0" in (config.get(name) or ""):
            raise EnvironmentFault(f"image config has a broken config.{name}: a NUL in it")
    for name in _TEXT_LISTS:
        _text_list(config, name)
    return body


def diff_ids_of(config: Mapping[str, Any]) -> list[str]:
    """Return the diffIDs of a config that `parse_config` took, base first."""
    rootfs: dict[str, Any] = config.get("rootfs") or {}
    return list(rootfs.get("diff_ids") or ())


def _typed(body: Mapping[str, Any], names: tuple[str, ...], kind: type, where: str) -> None:
    for name in names:
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise EnvironmentFault(f"image config has a broken {where}{name}")


def _text_list(body: Mapping[str, Any], name: str) -> None:
    value: Any = body.get(name)
    if value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value)):  # pyright: ignore
        return
    raise EnvironmentFault(f"image config has broken {name}")


def choose(
    index: Index,
    requested: Platform,
    inspect: Callable[[Descriptor], Platform | None] | None = None,
) -> Descriptor | None:
    """Return the entry that serves *requested* best, the first of equals, or None [IMG-19, IMG-20].

    Args:
        inspect: finds the platform of an entry that does not say it, from its config.
    """
    best: tuple[int, int] | None = None
    chosen: Descriptor | None = None
    for position, entry in enumerate(index.manifests):
        platform = entry.platform
        if platform is None and inspect is not None and entry.media_type in MANIFEST_TYPES:
            platform = inspect(entry)
        if platform is None or "unknown" in (platform.os, platform.arch):
            continue
        rank = requested.rank(platform)
        if rank is not None and (best is None or (rank, position) < best):
            best, chosen = (rank, position), entry
    return chosen


def resolve(
    descriptor: Descriptor,
    read: Callable[[Descriptor], bytes],
    requested: Platform,
) -> tuple[Descriptor, Manifest]:
    """Walk from a manifest or (nested) index to the manifest for *requested*.

    Args:
        read: returns a manifest's verified bytes.

    Raises:
        EnvironmentFault: no entry fits, or indexes are nested more than `MAX_DEPTH` deep.
    """
    for _ in range(MAX_DEPTH):
        document = parse_manifest(read(descriptor), descriptor.media_type)
        if isinstance(document, Manifest):
            return descriptor, document

        def inspect(entry: Descriptor) -> Platform | None:
            inner = parse_manifest(read(entry), entry.media_type)
            if not isinstance(inner, Manifest):
                return None
            return Platform.from_json(parse_config(read(inner.config)))

        chosen = choose(document, requested, inspect)
        if chosen is None:
            # An index of indexes names platforms only further down.
            nested = [d for d in document.manifests if d.media_type in INDEX_TYPES]
            if len(nested) != 1:
                raise EnvironmentFault(
                    f"{descriptor.digest} has no image for {requested} (it has {_platforms(document)})"
                )
            chosen = nested[0]
        descriptor = chosen
    raise EnvironmentFault(f"indexes are nested more than {MAX_DEPTH} deep: {descriptor.digest}")


def _platforms(index: Index) -> str:
    names = [str(d.platform) for d in index.manifests if d.platform and d.platform.os != "unknown"]
    return ", ".join(names[:12]) or "none"


def _schema1() -> EnvironmentFault:
    return EnvironmentFault(
        "manifest of schema version 1 is not supported",
        hints=("push the image again with a current client",),
    )


def _descriptors(body: Mapping[str, Any], name: str) -> tuple[Descriptor, ...]:
    items = body[name]
    if not isinstance(items, list):
        raise ValueError(f"{name} is not a list")
    if len(items) > MAX_ENTRIES:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"{len(items)} {name}, more than {MAX_ENTRIES}")  # pyright: ignore
    return tuple(Descriptor.from_json(item) for item in items)  # pyright: ignore


def _annotations(body: Mapping[str, Any]) -> dict[str, str]:
    annotations: dict[str, Any] = body.get("annotations") or {}
    return {str(key): str(value) for key, value in annotations.items()}


def _finish(
    body: dict[str, Any], annotations: Mapping[str, str] | None, subject: Descriptor | None
) -> dict[str, Any]:
    if subject is not None:
        body["subject"] = subject.to_json()
    if annotations:
        body["annotations"] = dict(sorted(annotations.items()))
    return body
