"""The solver's `RecordStore`: records, aliases and durations."""

from __future__ import annotations

from contextlib import contextmanager, suppress

from pybuild.cache.records.imported import ImportedCache, is_link
from pybuild.cache.records.inputs import Inputs
from pybuild.cache.records.layers import LAYER, all_layers, layer_facts
from pybuild.model.digest import Digest
from pybuild.model.layerfacts import LayerFacts
from pybuild.model.snapshot import Record, Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import Any

    from pybuild.cache.content.leases import Keeper
    from pybuild.cache.store import Store
    from pybuild.model.named import NamedInputs

RESULT = "result"
ALIAS = "alias"
SECONDS = "seconds"
USE = "use"
PUSHED = "pushed"  # by blob digest: which repositories have it
SEARCHED = "searched"  # by blob digest: what is found in the layer that should be in none

# Last use is for freeing what nobody wants; ten minutes are exact enough, and save a write.
_USE_GRAIN_S = 600.0


class Results:
    """The results of one store, as one build sees them: what it loads, *lease* keeps."""

    def __init__(self, store: Store, lease: Keeper | None = None) -> None:
        self._store = store
        self._lease = lease or store.lease
        self._imports: list[ImportedCache] = []
        self.inputs = Inputs(store)

    def prepare(self) -> None:
        """Open the database for writing, which takes milliseconds; whoever writes meets its faults."""
        from pybuild.model.errors import EnvironmentFault

        with suppress(EnvironmentFault):
            self._store.records.prepare()

    @contextmanager
    def importing(self, caches: Sequence[ImportedCache]) -> Generator[None]:
        """Find in *caches* too, in this order, what the store does not have, inside the context."""
        self._imports += caches
        try:
            yield
        finally:
            for cache in caches:
                self._imports.remove(cache)

    def load(self, key: Digest) -> Record | None:
        """Return the record if every delta it names is whole, or can be pulled, and now leased.

        A record that names something absent is removed. What an import has becomes a record.
        """
        record = self._stored(key)
        if record is not None:
            return record
        for cache in tuple(self._imports):
            record = cache.find(key, self._lease)
            if record is not None:
                if not is_link(record.snapshot.deltas):
                    self.save(record)
                return record
        return None

    def made(self, key: Digest) -> Record | None:
        """Return the record of what a build on this store made, as `load` does; no import is asked."""
        return self._stored(key)

    def claim(self, key: Digest) -> bool:
        """Claim the making of a result; False: another process is making it."""
        return self._store.claims.take(key)

    def release(self, key: Digest) -> None:
        """Let others make, or find, what was claimed."""
        self._store.claims.release(key)

    def packed_inputs(self, key: Digest) -> str:
        """Return the named inputs of a result, as caches carry them; empty if not known."""
        own = self.inputs.named(key)
        if own is not None:
            from pybuild.image.cacheformat.namedinputs import pack  # for caches to carry

            return pack(own)
        packed = (cache.packed_inputs(key) for cache in tuple(self._imports))
        return next((text for text in packed if text), "")

    def forget(self, delta: str, *, everywhere: bool) -> None:
        """Do not offer results with this delta again: it was found to be gone.

        Args:
            everywhere: nor with any other layer of the same cache that was not fetched yet.
        """
        records = self._store.records
        facts = layer_facts(records, delta)
        deltas = [delta]
        if everywhere and facts is not None and facts.cache:
            deltas += [
                other
                for other, known in all_layers(records)
                if known.cache == facts.cache and not self._is_here(other, known)
            ]
        for one in deltas:
            known = layer_facts(records, one)
            if known is not None and known.cache:
                records.delete(LAYER, one)
        for cache in self._imports:
            cache.forget(deltas)

    def _is_here(self, delta: str, facts: LayerFacts) -> bool:
        if self._store.deltas.has(delta):
            return True
        return facts.descriptor is not None and self._store.blobs.has(facts.descriptor.digest)

    def _stored(self, key: Digest) -> Record | None:
        value = self._store.records.get(RESULT, key)
        if value is None:
            return None
        try:
            record = self._decode(key, value)
        except (KeyError, TypeError, ValueError):
            self._drop(key)
            return None
        deltas = record.snapshot.deltas
        self._lease.add_all([("delta", id) for id in deltas])
        if not all(self.is_present(id) for id in deltas):
            self._drop(key)
            return None
        self._used(key)
        return record

    def _drop(self, key: Digest) -> None:
        self._store.records.delete(RESULT, key)

    def is_present(self, delta: str) -> bool:
        """Return whether *delta* is here, or is a layer that can still be pulled."""
        if self._store.deltas.has(delta):
            return True
        facts = layer_facts(self._store.records, delta)
        lazy = delta.startswith(("sha256-", "chain-"))
        return facts is not None and (lazy or facts.is_lent)

    def _decode(self, key: Digest, value: dict[str, Any]) -> Record:
        deltas = tuple(value["deltas"])
        if not all(isinstance(id, str) for id in deltas):
            raise TypeError("deltas are names")
        for id in deltas:
            self._store.deltas.path(id)  # a name that could leave the store is no record of ours
        return Record(
            key=key,
            snapshot=Snapshot(deltas),
            seconds=float(value["seconds"]),
            created=float(value["created"]),
            name=str(value["name"]),
        )

    def save(self, record: Record, named_inputs: NamedInputs | None = None) -> None:
        """Store; a record of the same key is replaced. Its deltas are already committed.

        What it was made of goes beside it, since that is read to explain a miss only.

        Raises:
            EnvironmentFault: it cannot be written.
            InternalError: a delta of it is absent: a record never points at nothing.
        """
        value: dict[str, Any] = {
            "deltas": list(record.snapshot.deltas),
            "seconds": record.seconds,
            "created": record.created,
            "name": record.name,
            "at": self._store.clock.now(),  # for freeing; `created` is the solver's word
        }
        if is_link(record.snapshot.deltas):
            return  # composed of what is not here; it is found again when it is
        self._lease.add_all([("delta", id) for id in record.snapshot.deltas])
        with self._store.leases.guard():
            for id in record.snapshot.deltas:
                if not self.is_present(id):
                    from pybuild.model.errors import InternalError

                    raise InternalError(f"record {record.key}: snapshot {id} is not in the store")
            self._store.records.put(RESULT, record.key, value)
        if named_inputs is not None:
            self.inputs.put(record.key, record.name, named_inputs)

    def alias(self, key: Digest) -> Digest | None:
        """Return the content-based key that a definition-based key was last found to mean.

        One that nothing is stored under gives way to that of an import.
        """
        target = self._stored_alias(key)
        if not self._imports:
            return target
        if target is not None and self._store.records.get(RESULT, target) is not None:
            return target
        imported = (cache.alias(key) for cache in tuple(self._imports))
        return next((other for other in imported if other is not None), target)

    def _stored_alias(self, key: Digest) -> Digest | None:
        value = self._store.records.get(ALIAS, key)
        try:
            return None if value is None else Digest.parse(value["target"])
        except (KeyError, TypeError, ValueError):
            return None

    def save_alias(self, key: Digest, target: Digest) -> None:
        self._store.records.put(ALIAS, key, {"target": target, "at": self._store.clock.now()})

    def seconds(self, vertex: Digest) -> float | None:
        """Return the duration of this vertex's last run, for critical-path order."""
        value = self._store.records.get(SECONDS, vertex)
        seconds = None if value is None else value.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    def save_seconds(self, vertex: Digest, seconds: float) -> None:
        before = self._store.records.get(SECONDS, vertex) or {}
        value = {**before, "seconds": seconds, "at": self._store.clock.now()}
        self._store.records.put(SECONDS, vertex, value)

    def peak(self, vertex: Digest) -> int:
        """Return the most memory, in bytes, that this vertex's last run used; 0: unknown."""
        peak = (self._store.records.get(SECONDS, vertex) or {}).get("peak")
        return peak if isinstance(peak, int) else 0

    def save_peak(self, vertex: Digest, peak: int) -> None:
        before = self._store.records.get(SECONDS, vertex) or {}
        value = {**before, "peak": peak, "at": self._store.clock.now()}
        self._store.records.put(SECONDS, vertex, value)

    def _used(self, key: Digest) -> None:
        """Note the use, without making a build fail that could do without."""
        from pybuild.model.errors import EnvironmentFault

        now = self._store.clock.now()
        last = self._store.records.get(USE, key) or {}
        at, count = last.get("at"), last.get("count")
        if isinstance(at, int | float) and abs(now - at) < _USE_GRAIN_S:
            return
        count = count + 1 if isinstance(count, int) else 1
        try:
            self._store.records.put(USE, key, {"at": now, "count": count})
        except EnvironmentFault as error:
            self._store.warn(error.message)
