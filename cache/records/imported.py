"""Caches of other builders, as a build that imports them sees them [CCH-12, CCH-13].

They stay in memory: what is found in one becomes a record of the store, its layers such as can be
pulled, and nothing else of it is ever written. Whoever names a source trusts it as he trusts a base
image [CCH-16]: its keys are believed, its bytes are compared with their digests.
"""

from __future__ import annotations

from dataclasses import replace

from pybuild.cache.records.layers import (
    delta_made_into,
    delta_of_layer,
    keep_layer,
    layer_facts,
)
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.named import ImportedInputs, KnownInputs
from pybuild.model.snapshot import Record, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pybuild.cache.content.leases import Keeper
    from pybuild.cache.store import Store
    from pybuild.image.cacheformat.config import CacheContents, CachedLayer, CachedResult
    from pybuild.model.digest import Digest
    from pybuild.model.named import Listing

_LINK_PREFIX = "gone-"


def is_link(deltas: Iterable[str]) -> bool:
    """Return whether a stack is a link: its cache knows the key of the result, and no more."""
    return any(delta.startswith(_LINK_PREFIX) for delta in deltas)


class ImportedCache:
    """One cache.

    Args:
        name: of its source, for people.
        place: where its layers are, as a layer's record has it: ``reference`` or ``layout``.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        contents: CacheContents,
        place: Mapping[str, str],
    ) -> None:
        self.name = name
        self._store = store
        self._place = dict(place)
        self._layers = contents.layers
        self._results: dict[Digest, CachedResult] = {}
        self._aliases: dict[Digest, Digest] = {}
        self._gone: set[str] = set()
        self._has_links = True
        for result in contents.results:
            self._results.setdefault(result.key, result)
            for alias in result.aliases:
                self._aliases.setdefault(alias, result.key)

    def alias(self, key: Digest) -> Digest | None:
        """Return the content key that a definition key stands for."""
        return self._aliases.get(key)

    def packed_inputs(self, key: Digest) -> str:
        """Return the named inputs of a result, packed; empty if the cache has none."""
        result = self._results.get(key)
        return "" if result is None else result.packed_inputs

    def known(self, accepts: Callable[[str], bool]) -> ImportedInputs:
        """Return the named inputs of the results whose names satisfy *accepts*."""
        from pybuild.image.cacheformat.namedinputs import unpack  # most builds import no cache

        results_inputs: list[KnownInputs] = []
        listings: dict[str, Listing] = {}
        for result in self._results.values():
            inputs = unpack(result.packed_inputs) if accepts(result.name) else None
            if inputs is not None:
                listings |= inputs.listings
                results_inputs.append(
                    KnownInputs(
                        key=result.key,
                        name=result.name,
                        parts=inputs.parts,
                        place=self.name,
                        first=result.created,
                    )
                )
        return ImportedInputs(tuple(results_inputs), listings)

    def find(self, key: Digest, lease: Keeper) -> Record | None:
        """Return the record of *key*: its deltas are leased and can be pulled, or it is a link.

        Raises:
            EnvironmentFault: the store cannot be written.
        """
        result = self._results.get(key)
        if result is None:
            return None
        deltas = self._deltas(result, lease) if result.layers else self._link(key)
        if deltas is None:
            return None
        return Record(
            key=key,
            snapshot=Snapshot(deltas),
            seconds=result.seconds,
            created=result.created,
            name=result.name,
        )

    def forget(self, deltas: Iterable[str]) -> None:
        """Offer no results with these deltas; a link among them: none at all."""
        missing = set(deltas)
        self._gone |= missing
        if is_link(missing):
            self._has_links = False

    def _link(self, key: Digest) -> tuple[str] | None:
        return (_LINK_PREFIX + key.hex,) if self._has_links else None

    def _deltas(self, result: CachedResult, lease: Keeper) -> tuple[str, ...] | None:
        deltas: list[str] = []
        for diff_id in result.layers:
            delta = self._delta(self._layers[diff_id], deltas, lease)
            if delta is None:
                return None
            deltas.append(delta)
        return tuple(deltas)

    def _delta(self, layer: CachedLayer, below: list[str], lease: Keeper) -> str | None:
        """Return the name of a layer's delta, which is here or was noted to be pulled."""
        records = self._store.records
        own = delta_made_into(records, layer.diff_id)
        if own is not None:
            lease.add("delta", own)
            if self._store.deltas.has(own):
                return own
        delta = delta_of_layer(layer.diff_id)
        lease.add("delta", delta)  # first, or a prune in between would drop the record
        known = layer_facts(records, delta)
        if known is not None and known.created is None and layer.created and not layer.origin:
            # It came in an image, which tells no times of layers.
            known = replace(known, created=layer.created)
            keep_layer(records, delta, known)
        if self._store.deltas.has(delta):
            return delta
        if known is not None and not known.cache:
            if known.reference or known.layout:
                return delta  # a base image's: it has the same bytes, and its own place
            known = None
        if delta in self._gone:
            return None
        facts = self._facts(known or LayerFacts(), layer, below)
        if facts != known:
            keep_layer(records, delta, facts)
        return delta

    def _facts(self, known: LayerFacts, layer: CachedLayer, below: list[str]) -> LayerFacts:
        facts = replace(
            known,
            diff_id=layer.diff_id,
            descriptor=layer.blob,
            parents=tuple(below),
            cache=self.name,
        )
        if layer.origin:  # by the cache's word only: if it cannot be had there, its step runs
            return replace(facts, reference=layer.origin, is_origins=True)
        return replace(
            facts,
            reference=self._place.get("reference", ""),
            layout=self._place.get("layout", facts.layout),
            created=layer.created,
        )
