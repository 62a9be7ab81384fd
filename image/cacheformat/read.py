"""Reads caches that come from elsewhere: every number and digest is checked before it is believed.

The formats are those of `cacheconfig`. Records that are BuildKit's read as well; their digests are
nobody's keys here, so they are never found.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pybuild.image.cacheformat.config import (
    MAX_BYTES,
    CacheContents,
    CachedLayer,
    CachedResult,
)
from pybuild.image.cacheformat.mounts import read_mounts
from pybuild.image.cacheformat.namedinputs import MAX_TEXT
from pybuild.image.config import INLINE_CACHE, parse_time
from pybuild.image.manifest import Manifest, diff_ids_of, parse_object
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault
from pybuild.model.reference import Reference

MAX_RECORDS = 200_000
MAX_LAYERS = 100_000
MAX_DEPTH = 500
"""Layers of one result; the kernel mounts no more."""
MAX_NAMED = 2_000_000
"""Layers of all results together."""


def read_config(data: bytes) -> CacheContents:
    """Read a document; records of which we can have no use are left out.

    Raises:
        EnvironmentFault: it is broken, or refers to what is not in it.
    """
    body = parse_object(data, "cache config", MAX_BYTES)
    try:
        layers, records = _list(body, "layers", MAX_LAYERS), _list(body, "records", MAX_RECORDS)
        return replace(_contents(layers, records), mounts=read_mounts(body.get("mounts") or ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EnvironmentFault(f"broken cache config: {_said(error)}") from error


def named_blobs(data: bytes) -> set[Digest]:
    """Return every blob that a document names, be it of use to us or not.

    Raises:
        EnvironmentFault: it is broken.
    """
    body = parse_object(data, "cache config", MAX_BYTES)
    try:
        mounts = read_mounts(body.get("mounts") or ())
        named = {Digest.parse(str(one["blob"])) for one in _list(body, "layers", MAX_LAYERS)}
        return named | {blob.digest for mount in mounts for blob in mount.blobs}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EnvironmentFault(f"broken cache config: {_said(error)}") from error


def read_inline(manifest: Manifest, config: Mapping[str, Any]) -> CacheContents | None:
    """Read what an image carries; None when it carries nothing.

    Args:
        config: the image's, as `parse_config` took it.

    Raises:
        EnvironmentFault: it is broken.
    """
    text = config.get(INLINE_CACHE)
    if text is None:
        return None
    diff_ids = diff_ids_of(config)
    if len(diff_ids) != len(manifest.layers):
        raise EnvironmentFault("broken inline cache: the image's layers and diffIDs differ")
    try:
        data = base64.b64decode(text, validate=True)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes, more than {MAX_BYTES}")
        records = json.loads(data)
        layers = [
            {
                "blob": layer.digest,
                "parent": at - 1,
                "annotations": {
                    "mediaType": layer.media_type,
                    "size": layer.size,
                    "diffID": diff_id,
                    "createdAt": created,
                },
            }
            for at, (layer, diff_id, created) in enumerate(
                zip(manifest.layers, diff_ids, _times(config, len(diff_ids)), strict=True)
            )
        ]
        return _contents(layers, _list({"records": records}, "records", MAX_RECORDS))
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        binascii.Error,
    ) as error:
        raise EnvironmentFault(f"broken inline cache: {_said(error)}") from error


def _times(config: Mapping[str, Any], count: int) -> list[str]:
    """When each layer was made, by the image's history."""
    history: list[Any] = config.get("history") or []
    times = [str(entry.get("created") or "") for entry in history if not entry.get("empty_layer")]
    return [*times, *[""] * count][:count]


def _contents(layers: list[Any], records: list[Any]) -> CacheContents:
    read = _Layers(layers)
    results: dict[Digest, CachedResult] = {}
    for item in records:
        result = _read_record(item, read)
        if result is not None:
            results.setdefault(result.key, result)
    used = {diff_id for result in results.values() for diff_id in result.layers}
    known = {layer.diff_id: layer for layer in reversed(read.layers) if layer is not None}
    return CacheContents({d: known[d] for d in sorted(used)}, tuple(results.values()))


class _Layers:
    """The layers of a document and their parents, which may be anything."""

    def __init__(self, items: list[Any]) -> None:
        self.layers = [_read_layer(item) for item in items]
        self._parents: list[int] = []
        self._named = 0
        for at, item in enumerate(items):
            parent = item.get("parent", 0)
            if not _is_int(parent) or not -1 <= parent < len(items) or parent == at:
                raise ValueError(f"layer {at} has the parent {parent!r}")
            self._parents.append(parent)

    def chain(self, at: Any) -> tuple[Digest, ...]:
        """Return a layer with all below it, base first; nothing where one cannot be used."""
        place = self._index(at)
        stack: list[int] = []
        while place >= 0:
            stack.append(place)
            if len(stack) > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} layers below each other")
            place = self._parents[place]
        return self.stack(stack[::-1])

    def stack(self, places: Sequence[Any]) -> tuple[Digest, ...]:
        """Return layers by their places; nothing where one cannot be used."""
        chosen = [self.layers[self._index(at)] for at in places]
        self._named += len(chosen)
        if self._named > MAX_NAMED:
            raise ValueError(f"its results have more than {MAX_NAMED} layers together")
        whole = [layer.diff_id for layer in chosen if layer is not None]
        return tuple(whole) if len(whole) == len(chosen) else ()

    def _index(self, at: Any) -> int:
        if not _is_int(at) or not 0 <= at < len(self.layers):
            raise ValueError(f"layer {at!r} of {len(self.layers)}")
        return int(at)


def _read_layer(item: Any) -> CachedLayer | None:
    """Read a layer; None where it does not say what it unpacks to, so that nobody can check it."""
    blob = Digest.parse(str(item["blob"]))
    notes: dict[str, Any] = item.get("annotations") or {}
    diff_id, size = notes.get("diffID"), notes.get("size")
    if not diff_id or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    media_type = str(notes.get("mediaType") or "")
    origin = str(item.get("origin") or "")
    if origin:
        Reference.parse(origin)
    return CachedLayer(
        diff_id=Digest.parse(str(diff_id)),
        blob=Descriptor(media_type, blob, size),
        created=parse_time(str(notes.get("createdAt") or "")) or 0.0,
        origin=origin,
    )


def _read_record(item: Any, layers: _Layers) -> CachedResult | None:
    stack: tuple[Digest, ...] = ()
    created = 0.0
    choices = [
        *((one, layers.chain(one.get("layer", 0))) for one in _list(item, "layers", MAX_LAYERS)),
        *(
            (one, layers.stack(_list(one, "layers", MAX_DEPTH)))
            for one in _list(item, "chains", MAX_LAYERS)
        ),
    ]
    for choice, chosen in choices:
        if chosen and not stack:
            stack, created = chosen, _time(choice)
    aliases = tuple(Digest.parse(str(text)) for text in _list(item, "aliases", MAX_RECORDS))
    if not stack and not aliases:
        return None
    seconds = item.get("seconds", 0.0)
    return CachedResult(
        key=Digest.parse(str(item["digest"])),
        layers=stack,
        aliases=aliases,
        created=created,
        used=parse_time(str(item.get("usedAt") or "")) or 0.0,
        seconds=float(seconds) if isinstance(seconds, int | float) and seconds >= 0 else 0.0,
        name=str(item.get("name") or "")[:1000],
        packed_inputs=_short(item.get("madeOf")),
    )


def _time(body: Mapping[str, Any]) -> float:
    return parse_time(str(body.get("createdAt") or "")) or 0.0


def _short(text: Any) -> str:
    return text if isinstance(text, str) and len(text) <= MAX_TEXT else ""


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list(item: Any, name: str, limit: int) -> list[Any]:
    items: Any = item.get(name)
    if items is None:
        return []
    if not isinstance(items, list):
        raise TypeError(f"{name} is no list")
    if len(items) > limit:  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"more than {limit} {name}")
    return items  # pyright: ignore[reportUnknownVariableType]


def _said(error: Exception) -> str:
    text = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return "".join(char if char.isprintable() else " " for char in text)[:200]
