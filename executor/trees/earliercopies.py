"""Copies of a directory of the client that were made before, to the same place on the same base.

Where little of the directory has changed since, a copy is that earlier one and a patch
(`cache.content.patches`), so it costs as much as the changes. What an earlier copy was made of is a file
beside its delta, found by a record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pybuild.cache.content.leases import Lease
from pybuild.cache.content.patches import COPIED, CopyRecord, name_patch
from pybuild.cache.disk.atomic import faults
from pybuild.cache.store import Store
from pybuild.model.digest import Digest

if TYPE_CHECKING:
    from pybuild.executor.trees.treefacts import TreeFacts

# Mounting an overlay and looking the earlier copy up takes as long as making so many files.
_WORTH = 300
# Paths that the base has, too; where there are more, records would become large.
_MOST_MET = 1000
# A patch that is a good part of the whole is read with it for ever; better a new whole.
_PART = 4


class EarlierCopy:
    """One that can be patched; its delta is leased.

    Attributes:
        changed: the paths to copy again, with the directories above them up to the source, ``""``.
        names: the same, as the names in each directory.
    """

    def __init__(self, delta: str, changed: Iterable[str]) -> None:
        self.delta = delta
        self.changed = {"", *changed}
        for path in list(self.changed):
            while path:
                path = path.rpartition("/")[0]
                self.changed.add(path)
        self.names: dict[str, list[str]] = {}
        for path in sorted(self.changed - {""}):
            above, _, name = path.rpartition("/")
            self.names.setdefault(above, []).append(name)

    def name_patch(self) -> str:
        return name_patch(self.delta)


class EarlierCopies:
    """The earlier copies of one store; blocking, meant for threads."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease

    def find(self, place: Digest, facts: TreeFacts) -> EarlierCopy | None:
        """Return the copy to *place* that a patch makes one of *facts*; None if it is not worth it."""
        cost = facts.cost
        if not facts.plain or cost < _WORTH:
            return None
        value = self._store.records.get(COPIED, place)
        record = None if value is None else CopyRecord.from_json(value)
        if record is None or record.met is None:
            return None
        delta = record.delta
        if not self._store.deltas.has_name(delta):
            return None
        self._lease.add("delta", delta)
        if not self._store.deltas.has(delta):
            return None  # it went just now
        from pybuild.executor.trees.treefacts import TreeFacts

        try:
            with open(self._file(os.path.dirname(self._store.deltas.path(delta))), "rb") as file:
                earlier = TreeFacts.decode(file.read())
        except OSError:
            return None
        difference = None if earlier is None else facts.changes_since(earlier)
        if difference is None:
            return None
        changed, part = difference
        if part * _PART > cost or not changed.isdisjoint(record.met):
            return None
        return EarlierCopy(delta, changed)

    def note(self, path: str, facts: TreeFacts) -> bool:
        """Put *facts* beside the delta that is being written in *path*; tell if they are worth it.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        if not facts.plain or facts.cost < _WORTH:
            return False
        disk = self._store.disk
        with faults("cannot write what a copy was made of", self._store.root):
            fd = disk.create(self._file(path))
            try:
                disk.write(fd, facts.encode())
            finally:
                os.close(fd)
        return True

    def _file(self, directory: str) -> str:
        return os.path.join(directory, "copied")

    def keep(self, place: Digest, delta: str, met: Sequence[str]) -> None:
        """Let *delta*, whose facts were noted, be found by *place*.

        Args:
            met: paths that its copy found in the base. What of them changes may be as the base has
                it, or be no more, and a patch could not say so: then all is copied.
        """
        if len(met) <= _MOST_MET:
            self._store.records.put(COPIED, place, CopyRecord(delta, tuple(met)).to_json())
