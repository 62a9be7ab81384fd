"""The cache of a build as registries carry it: results by key, as stacks of layers [CCH-11].

The document is BuildKit's (``application/vnd.buildkit.cacheconfig.v0``): ``layers`` with a parent
each, ``records`` with a digest and what they result in. The digests are our own keys, so each
builder reads the other's caches and finds nothing that it could mistake. What BuildKit does not
know of and passes over:

* ``aliases`` of a record: definition keys that stand for its content key. A record that has these
  and no layers is a link: its result is not in the cache, yet keys above it can be found.
* ``origin`` of a layer: the image that it was pulled from; such a layer is not in the cache.
* ``name`` and ``seconds`` of a record, for people and for the order of work.
* ``madeOf``: what its key was made of, to explain misses; not in an image's own config.
* ``usedAt`` of a record: when some build last had a use for it, so that the rest can go.
* ``mounts``: the cache mounts that it carries (`image.cacheformat.mounts`).

Pure. `cacheread` reads what is written here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pybuild.image.cacheformat.mounts import CachedMount, mount_entries
from pybuild.image.cacheformat.namedinputs import within_bounds
from pybuild.image.config import encode, format_time
from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
MAX_BYTES = 32 << 20
"""The longest document we take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedLayer:
    """One layer.

    Attributes:
        origin: the image that has it, if the cache itself does not.
        created: seconds since the epoch; 0 where nobody says.
    """

    diff_id: Digest
    blob: Descriptor
    created: float = 0.0
    origin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedResult:
    """The result that a key stands for.

    Attributes:
        layers: diffIDs, base first; empty for a link.
        aliases: definition keys that stand for *key*.
        used: by a build, seconds since the epoch, to within hours; 0 if not known.
        packed_inputs: the parts of its key, packed (`image.cacheformat.namedinputs`); empty if not known.
    """

    key: Digest
    layers: tuple[Digest, ...] = ()
    aliases: tuple[Digest, ...] = ()
    created: float = 0.0
    used: float = 0.0
    seconds: float = 0.0
    name: str = ""
    packed_inputs: str = ""


@dataclass(frozen=True, slots=True)
class CacheContents:
    """A whole cache; *layers* by diffID."""

    layers: Mapping[Digest, CachedLayer] = field(default_factory=dict[Digest, CachedLayer])
    results: tuple[CachedResult, ...] = ()
    mounts: tuple[CachedMount, ...] = ()

    @property
    def carried(self) -> list[CachedLayer]:
        """The layers that are in the cache itself, in a fixed order."""
        return [layer for _, layer in sorted(self.layers.items()) if not layer.origin]


def write_config(contents: CacheContents) -> bytes:
    """Return the document; equal contents give equal bytes."""
    nodes: dict[tuple[int, Digest], int] = {}
    layers: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    latest = sorted(contents.results, key=lambda r: (-r.used, r.key))
    packed_inputs = within_bounds((result.key, result.packed_inputs) for result in latest)
    for result in sorted(contents.results, key=lambda r: r.key):
        record = _record(result)
        if result.key in packed_inputs:
            record["madeOf"] = packed_inputs[result.key]
        at = -1
        for diff_id in result.layers:
            node = nodes.get((at, diff_id))
            if node is None:
                node = nodes[at, diff_id] = len(layers)
                layers.append(_layer(contents.layers[diff_id], at))
            at = node
        if at >= 0:
            record["layers"] = [{"layer": at, **_created(result.created)}]
        records.append(record)
    document: dict[str, Any] = {"layers": layers, "records": records}
    if contents.mounts:
        document["mounts"] = mount_entries(contents.mounts)
    return encode(document)


def write_inline(contents: CacheContents, diff_ids: Sequence[Digest]) -> str:
    """Return the cache entries of an image with these layers, in base64 as its config has them."""
    place = {diff_id: at for at, diff_id in reversed(list(enumerate(diff_ids)))}
    records: list[dict[str, Any]] = []
    for result in sorted(contents.results, key=lambda r: r.key):
        record = _record(result)
        stack = list(result.layers)
        if stack and stack == list(diff_ids[: len(stack)]):
            record["layers"] = [{"layer": len(stack) - 1, **_created(result.created)}]
        elif stack:
            chain = [place[diff_id] for diff_id in stack]
            record["chains"] = [{"layers": chain, **_created(result.created)}]
        records.append(record)
    return base64.b64encode(encode(records)).decode()


def _record(result: CachedResult) -> dict[str, Any]:
    record: dict[str, Any] = {"digest": result.key}
    if result.aliases:
        record["aliases"] = sorted(result.aliases)
    if result.name:
        record["name"] = result.name
    if result.seconds:
        record["seconds"] = round(result.seconds, 3)
    if result.used:
        record["usedAt"] = format_time(int(result.used))
    return record


def _layer(layer: CachedLayer, parent: int) -> dict[str, Any]:
    written: dict[str, Any] = {
        "blob": layer.blob.digest,
        "parent": parent,
        "annotations": {
            "mediaType": layer.blob.media_type,
            "diffID": layer.diff_id,
            "size": layer.blob.size,
            "createdAt": format_time(layer.created),
        },
    }
    if layer.origin:
        written["origin"] = layer.origin
    return written


def _created(seconds: float) -> dict[str, str]:
    return {"createdAt": format_time(seconds)} if seconds else {}
