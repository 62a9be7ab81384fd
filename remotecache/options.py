"""The targets and sources of a build's cache: ``--cache-to`` and ``--cache-from`` [CCH]."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import field, replace

from pybuild.image.cacheformat.merge import Retention
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.model.suggest import did_you_mean
from pybuild.model.text import switch
from pybuild.remotecache.places.services import (
    SOURCES,
    TARGETS,
    ServicePlace,
    service_place,
    with_credentials,
)

_COMPRESSIONS = ("gzip", "uncompressed", "zstd")
MOUNT_BYTES = 5_000_000_000
_FORMAT = frozenset(
    ("mode", "image-manifest", "oci-mediatypes", "compression", "compression-level")
    + (
        "force-compression",
        "ignore-error",
        "merge",
        "max-age",
        "max-size",
        "mounts",
        "mounts-max-size",
    )
)
_TO = {
    "registry": _FORMAT | {"ref"},
    "local": _FORMAT | {"dest", "tag"},
    **{kind: _FORMAT - {"image-manifest", "oci-mediatypes"} | own for kind, own in TARGETS.items()},
    "inline": frozenset(("ignore-error",)),
}
_FROM = {
    "registry": frozenset(("ref", "mounts")),
    "local": frozenset(("src", "tag", "digest", "mounts")),
    **{kind: own | {"mounts"} for kind, own in SOURCES.items()},
}
# Further attributes of BuildKit; naming the default is no harm.
_UNSUPPORTED = frozenset(("registry.insecure", "reset"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTo:
    """One place that a build's cache goes to.

    Attributes:
        type: ``registry``, ``local``, ``s3``, ``gha``, ``azblob`` or ``inline``.
        ref: of a registry, with a tag; *dest* a directory.
        everything: every step's layers (``mode=max``), not only those of the result.
        service: the place at a service that keeps caches besides registries.
        merge: the results of others stay there, within *retention*.
        force_compression: also of layers that another cache has in another one.
        mounts: the cache mounts of steps that ran are kept there, too, each up to *mount_bytes*.
        image_manifest: the cache is an image manifest; otherwise an index.
        meant: the option for the directory here that has the reference's name, if there is one.
        attrs: as they were given, for a build server.
    """

    type: str
    ref: Reference | None = None
    service: ServicePlace | None = None
    dest: str = ""
    tag: str = "latest"
    everything: bool = False
    image_manifest: bool = True
    oci_types: bool = True
    compression: str = "gzip"
    level: int | None = None
    force_compression: bool = False
    ignore_error: bool = False
    merge: bool = False
    retention: Retention = field(default_factory=Retention)
    mounts: bool = False
    mount_bytes: int = MOUNT_BYTES
    meant: str = field(default="", compare=False)
    attrs: Mapping[str, str] = field(default_factory=dict[str, str], hash=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFrom:
    """One place that a build's cache comes from.

    Attributes:
        mounts: steps begin with the cache mounts that are there, where this machine has none.
        may_be_empty: nobody is warned if there is nothing yet.
        meant: as that of a `CacheTo`.
    """

    type: str
    ref: Reference | None = None
    service: ServicePlace | None = None
    src: str = ""
    tag: str = ""
    digest: Digest | None = None
    may_be_empty: bool = False
    mounts: bool = True
    meant: str = field(default="", compare=False)
    attrs: Mapping[str, str] = field(default_factory=dict[str, str], hash=False, repr=False)

    def __str__(self) -> str:
        if self.ref is not None or self.service is not None:
            return str(self.ref or self.service)
        at = f"@{self.digest}" if self.digest else f":{self.tag}" if self.tag else ""
        return f"{self.src}{at}"


def in_doubt(text: str, meant: str) -> str:
    """Add to an error *text* about a place that perhaps a directory was meant."""
    return f"{text} (did you mean {meant}?)" if meant else text


@contextmanager
def doubting(meant: str) -> Generator[None]:
    """Add the same to errors about a text that is no reference."""
    try:
        yield
    except UsageError as error:
        raise error.saying(in_doubt(error.message, meant)) from error.__cause__


def cache_to(kind: str, attrs: Mapping[str, str], *, strict: bool = True) -> CacheTo:
    """Read the attributes of an export.

    Args:
        strict: refuse attributes that would be ignored.

    Raises:
        UsageError: a type or an attribute that there is not, or a wrong value.
    """
    if kind not in _TO:
        kinds = ", ".join(f"type={one}" for one in _TO)
        raise UsageError(
            f'unknown cache exporter: "{kind}"{did_you_mean(kind, _TO)}',
            hints=[f"there are {kinds}"],
        )
    if strict:
        _check(f"cache-to type={kind}", attrs, _TO[kind])
    oci_types = switch(attrs, "oci-mediatypes", True, "cache")
    image_manifest = switch(attrs, "image-manifest", oci_types, "cache")
    if image_manifest and not oci_types:
        raise UsageError(
            "invalid configuration for remote cache, OCI mediatypes are required for"
            " image-manifest cache format"
        )
    compression = attrs.get("compression", "gzip")
    if compression not in _COMPRESSIONS:
        raise UsageError(f'cache compression "{compression}": one of {", ".join(_COMPRESSIONS)}')
    if compression == "zstd" and not oci_types:
        raise UsageError("cache compression zstd needs oci-mediatypes=true")
    mode = attrs.get("mode", "min") or "min"
    if mode not in ("min", "max"):
        raise UsageError(f'invalid cache mode "{mode}": one of min, max')
    if kind == "local" and not attrs.get("dest"):
        raise UsageError("local cache exporter requires dest")
    return CacheTo(
        type=kind,
        ref=_reference(attrs, "exporter") if kind == "registry" else None,
        service=service_place(kind, attrs, "exporter"),
        dest=attrs.get("dest", ""),
        tag=attrs.get("tag") or "latest",
        everything=mode == "max",
        image_manifest=image_manifest,
        oci_types=oci_types,
        compression=compression,
        level=_level(attrs),
        force_compression=switch(attrs, "force-compression", False, "cache"),
        ignore_error=switch(attrs, "ignore-error", False, "cache"),
        merge=switch(attrs, "merge", mode == "max", "cache"),
        retention=_retention(attrs),
        mounts=switch(attrs, "mounts", False, "cache"),
        mount_bytes=_mount_bytes(attrs),
        attrs=dict(attrs),
    )


def cache_from(kind: str, attrs: Mapping[str, str], *, strict: bool = True) -> CacheFrom:
    """Read the attributes of an import; as `cache_to`."""
    if kind not in _FROM:
        near = did_you_mean(kind, _FROM)
        kinds = ", ".join(f"type={one}" for one in _FROM)
        raise UsageError(f'unknown cache importer: "{kind}"{near}', hints=[f"there are {kinds}"])
    if strict:
        _check(f"cache-from type={kind}", attrs, _FROM[kind])
    if kind == "local" and not attrs.get("src"):
        raise UsageError("local cache importer requires src")
    try:
        digest = Digest.parse(attrs["digest"]) if attrs.get("digest") else None
    except ValueError as error:
        raise UsageError(f"cache importer: {error}") from error
    return CacheFrom(
        type=kind,
        ref=_reference(attrs, "importer") if kind == "registry" else None,
        service=service_place(kind, attrs, "importer"),
        src=attrs.get("src", ""),
        tag=attrs.get("tag", ""),
        digest=digest,
        mounts=switch(attrs, "mounts", True, "cache"),
        attrs=dict(attrs),
    )


def parse_cache_to(text: str) -> CacheTo:
    """Read one ``--cache-to``: ``type=…,…``, or a bare reference.

    Raises:
        UsageError: as `cache_to`.
    """
    kind, attrs, meant = _fields(text, "cache-to", "dest")
    with doubting(meant):
        return replace(cache_to(kind, attrs), meant=meant)


def parse_cache_from(text: str) -> CacheFrom:
    """Read one ``--cache-from``: ``type=…,…``, or a bare reference.

    Raises:
        UsageError: as `cache_from`.
    """
    kind, attrs, meant = _fields(text, "cache-from", "src")
    with doubting(meant):
        return replace(cache_from(kind, attrs), meant=meant)


def _fields(text: str, option: str, path: str) -> tuple[str, dict[str, str], str]:
    """Return the kind, the other fields, that called *path* absolute, and what may have been meant."""
    meant = f"type=local,{path}={text}" if os.path.isdir(text) else ""
    if "=" not in text:
        return "registry", {"ref": text}, meant
    import csv

    attrs: dict[str, str] = {}
    for item in [one for record in csv.reader([text]) for one in record]:
        key, equals, value = item.partition("=")
        if not equals:
            if key.strip() == "ignore-error":
                value = "true"
            else:
                raise UsageError(
                    f'invalid {option} "{text}": field "{item}" must be a key=value pair'
                )
        attrs[key.strip().lower()] = value
    kind = attrs.pop("type", "")
    if not kind:
        raise UsageError(f'invalid {option} "{text}": type is required')
    if kind == "gha":
        attrs = with_credentials(kind, attrs, os.environ)
    if path in attrs:
        attrs[path] = os.path.abspath(os.path.expanduser(attrs[path]))
    return kind, attrs, meant


def _check(what: str, attrs: Mapping[str, str], known: frozenset[str]) -> None:
    for name, value in attrs.items():
        if name in known or (name in _UNSUPPORTED and value.lower() in {"false", "0", ""}):
            continue
        if name in _UNSUPPORTED:
            raise UsageError(f"{what}: {name}={value} is not supported yet")
        raise UsageError(
            f'{what} has no attribute "{name}"', hints=[f"it has: {', '.join(sorted(known))}"]
        )


def _reference(attrs: Mapping[str, str], role: str) -> Reference:
    text = attrs.get("ref", "")
    if not text:
        hint = "name where it is: type=registry,ref=HOST/NAME:cache"
        raise UsageError(f"registry cache {role} requires ref", hints=[hint])
    try:
        reference = Reference.parse(text)
    except ValueError as error:
        raise UsageError(f"registry cache {role}: {error}") from error
    if role == "exporter" and reference.digest is not None:
        raise UsageError(f'registry cache exporter: "{text}": a name to push to has no digest')
    return reference


def _retention(attrs: Mapping[str, str]) -> Retention:
    kept = Retention()
    age, size = attrs.get("max-age"), attrs.get("max-size")
    if not age and not size:
        return kept
    from pybuild.model.amounts import parse_duration, parse_size

    try:
        return Retention(
            max_age_s=parse_duration(age) if age else kept.max_age_s,
            max_bytes=parse_size(size, 0) if size else kept.max_bytes,
        )
    except UsageError as error:
        raise UsageError(f"cache attribute: {error.message}", hints=error.hints) from error


def _mount_bytes(attrs: Mapping[str, str]) -> int:
    if not attrs.get("mounts-max-size"):
        return MOUNT_BYTES
    from pybuild.model.amounts import parse_size

    try:
        return parse_size(attrs["mounts-max-size"], 0)
    except UsageError as error:
        raise UsageError(f"cache attribute: {error.message}", hints=error.hints) from error


def _level(attrs: Mapping[str, str]) -> int | None:
    if "compression-level" not in attrs:
        return None
    from pybuild.exporter.compressionlevel import compression_level

    return compression_level(attrs, "cache")
