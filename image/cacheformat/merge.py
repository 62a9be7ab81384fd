"""Puts caches together that several builds write to one place, and keeps the whole within bounds.

Pure. A build adds what it made and used; what others have put there stays until nobody has used it
for long, or there is no room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pybuild.image.cacheformat.config import CacheContents, CachedLayer, CachedResult
from pybuild.image.cacheformat.mounts import MOST_MOUNTS, CachedMount
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest

MOST_RESULTS = 10_000
MOST_LAYERS = 8_000
"""As many are named in 2 MB of manifest; registries take 4."""
MOST_PLACES = 20_000
"""Of layers on each other: 6 MB of config, which is written again whenever a step has ended."""
_USE_GRAIN_S = 6 * 3600.0
"""A use is noted once in so long: a build that changes nothing writes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The bounds on others' results; those of the build that writes are always kept.

    Attributes:
        max_age_s: since a build last used it.
        max_bytes: of all layers together.
    """

    max_age_s: float = 14 * 86400.0
    max_bytes: int = 10_000_000_000


def merged(
    mine: CacheContents, there: CacheContents, retention: Retention, now: float
) -> CacheContents:
    """Return *mine* with what is to be kept of *there*; the latest say of a key counts.

    Args:
        now: seconds since the epoch.
    """
    known = {result.key: result for result in there.results}
    own = {result.key: _joined(result, known.get(result.key), now) for result in mine.results}
    own_aliases = {alias for result in own.values() for alias in result.aliases}
    layers = {**there.layers, **mine.layers}
    kept = _Kept(layers, retention.max_bytes, own.values())
    oldest = now - retention.max_age_s
    others = [
        replace(result, used=result.used or result.created or now)
        for result in there.results
        if result.key not in own
    ]
    for result in sorted(others, key=lambda one: (-one.used, one.key)):
        aliases = tuple(alias for alias in result.aliases if alias not in own_aliases)
        if result.used >= oldest and (result.layers or aliases):
            kept.offer(replace(result, aliases=aliases))
    results = tuple(sorted(kept.results, key=lambda one: one.key))
    used = {diff_id for result in results for diff_id in result.layers}
    mounts = _merged_mounts(mine.mounts, there.mounts, retention, now)
    return CacheContents({diff_id: layers[diff_id] for diff_id in sorted(used)}, results, mounts)


def united(several: Sequence[CacheContents]) -> CacheContents:
    """Return all of *several*; a result wins over a mere link, else the first counts."""
    layers: dict[Digest, CachedLayer] = {}
    results: dict[Digest, CachedResult] = {}
    for contents in several:
        layers = {**contents.layers, **layers}
        for result in contents.results:
            known = results.get(result.key)
            if known is None or (result.layers and not known.layers):
                results[result.key] = result
    mounts = {mount.name: mount for contents in reversed(several) for mount in contents.mounts}
    return CacheContents(layers, tuple(results.values()), tuple(mounts.values()))


def _merged_mounts(
    mine: Sequence[CachedMount], there: Sequence[CachedMount], retention: Retention, now: float
) -> tuple[CachedMount, ...]:
    """Return *mine*, each whole, and those of *there* that are used and for which there is room."""
    own = {mount.name for mount in mine}
    kept = list(mine)
    room = retention.max_bytes - sum(blob.size for mount in mine for blob in mount.blobs)
    for mount in sorted(there, key=lambda one: (-one.used, one.name)):
        size = sum(blob.size for blob in mount.blobs)
        if mount.name not in own and now - mount.used <= retention.max_age_s and size <= room:
            kept.append(mount)
            room -= size
    return tuple(sorted(kept[:MOST_MOUNTS], key=lambda one: one.name))


def _joined(result: CachedResult, known: CachedResult | None, now: float) -> CachedResult:
    """Return this build's *result* with what was *known* of it."""
    if known is None:
        return replace(result, used=now)
    used = known.used if 0 <= now - known.used < _USE_GRAIN_S else now
    aliases = tuple(sorted({*result.aliases, *known.aliases}))
    if known.layers and not result.layers:
        return replace(known, aliases=aliases, used=used)
    return replace(
        result,
        aliases=aliases,
        used=used,
        packed_inputs=result.packed_inputs or known.packed_inputs,
    )


class _Kept:
    """Results that are kept, and the room that their layers take."""

    def __init__(
        self,
        layers: dict[Digest, CachedLayer],
        max_bytes: int,
        own: Iterable[CachedResult],
    ) -> None:
        self.results = list(own)
        self._layers = layers
        self._places: dict[tuple[int, Digest], int] = {}
        for result in self.results:
            self._stack(result.layers)
        self._named = {diff_id for result in self.results for diff_id in result.layers}
        self._room = max_bytes - self._size(self._named)

    def offer(self, result: CachedResult) -> None:
        """Keep *result* if there is room for it."""
        more = set(result.layers) - self._named
        size = self._size(more)
        if (
            len(self.results) >= MOST_RESULTS
            or len(self._named) + len(more) > MOST_LAYERS
            or len(self._places) + len(result.layers) > MOST_PLACES
            or (more and size > self._room)
        ):
            return
        self._stack(result.layers)
        self.results.append(result)
        self._named |= more
        self._room -= size

    def _stack(self, diff_ids: Iterable[Digest]) -> None:
        """Note where in the document these lie: on the same ones, a layer is written once."""
        at = -1
        for diff_id in diff_ids:
            at = self._places.setdefault((at, diff_id), len(self._places))

    def _size(self, diff_ids: Iterable[Digest]) -> int:
        """The bytes that these take in the cache; those of base images take none."""
        chosen = (self._layers[diff_id] for diff_id in diff_ids)
        return sum(layer.blob.size for layer in chosen if not layer.origin)
