"""Holdings: the store's share of the disk, counted again and again from the file system.

There is no running total that a killed process could leave wrong. What does not change is measured
once and remembered, so counting again costs a listing of two directories. What living processes
have in ``tmp/`` they state themselves (`Stated`); what is there beside that belongs to nobody.
"""

from __future__ import annotations

import os
import time
from dataclasses import field

from pybuild.cache.disk.atomic import discard
from pybuild.cache.disk.locks import is_alive
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.space.sizes import delta_size
from pybuild.cache.store import Store
from pybuild.model.dataclass import dataclass

_SUFFIX = ".space"
# What changes in place is small, or is measured by who changes it; it is looked at this often.
_FRESH_S = 2.0
_IN_PLACE = ("mounts", "contexts")


@dataclass(frozen=True, slots=True)
class Stated:
    """A process's statement of the space that it takes.

    Attributes:
        used: bytes of its own entries in ``tmp/``, when it last looked.
        granted: the bytes that these may grow to before it asks again; at least *used*.
        mounts: bytes of what it changes in place, by the path below the store: cache mounts that
            its steps write to, directories that clients send.
    """

    used: int = 0
    granted: int = 0
    mounts: dict[str, int] = field(default_factory=dict[str, int])

    def encode(self) -> bytes:
        lines = [f"{self.used} {self.granted}"]
        lines += [f"{size} {name}" for name, size in sorted(self.mounts.items())]
        return ("\n".join(lines) + "\n").encode()

    @staticmethod
    def decode(text: bytes) -> Stated | None:
        """Return the value that `encode` wrote; None for any other bytes."""
        try:
            first, *rest = text.decode().splitlines()
            used, granted = first.split()
            mounts = {name: int(size) for size, name in (line.split(" ", 1) for line in rest)}
            return Stated(int(used), int(granted), mounts)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Count:
    """One look at everything: bytes.

    Attributes:
        kept: committed things, and what in ``tmp/`` belongs to nobody.
        others: by owner, what other living processes state.
    """

    kept: int
    others: dict[str, Stated]

    def total(self, own: Stated, *, hopes: bool) -> int:
        """Return the bytes taken with *own*; with *hopes*, those that all grants allow."""
        all = [own, *self.others.values()]
        mounts: dict[str, int] = {}
        for stated in all:
            for name, size in stated.mounts.items():
                mounts[name] = max(size, mounts.get(name, 0))
        sizes = [stated.granted if hopes else stated.used for stated in all]
        return self.kept + sum(sizes) + sum(mounts.values())


class Holdings:
    """Counts one store. For one thread at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._blobs: dict[str, int] = {}
        self._deltas: dict[str, int] = {}
        self._changing: dict[str, tuple[float, int]] = {}

    def state(self, own: Stated) -> None:
        """Publish *own* to other processes. Raises OSError."""
        tmp = self._store.tmp
        path = tmp.name()
        try:
            fd = self._store.disk.create(path)
            try:
                self._store.disk.write(fd, own.encode())
            finally:
                os.close(fd)
            self._store.disk.rename(path, os.path.join(tmp.path, tmp.owner() + _SUFFIX))
        except BaseException:
            discard(path)
            raise

    def count(self, own: Stated) -> Count:
        """Look at everything but what *own* is about. Raises OSError."""
        others, strays = self._tmp()
        active = {*own.mounts, *(name for one in others.values() for name in one.mounts)}
        kept = strays + self._count_blobs() + self._count_deltas() + self._rest(active)
        return Count(kept, others)

    def own(self) -> dict[str, int]:
        """Measure our own entries in ``tmp/``, by name. Raises OSError."""
        tmp = self._store.tmp
        start = tmp.owner() + "."
        return {
            name: self._store.measure(os.path.join(tmp.path, name)).size
            for name in os.listdir(tmp.path)
            if name.startswith(start)
        }

    def mount(self, path: str) -> int:
        """Measure what is changed in place, now; *path* is below the store."""
        return self._store.measure(os.path.join(self._store.root, path)).size

    def _tmp(self) -> tuple[dict[str, Stated], int]:
        """Return the statements of others, and the size of entries that no statement covers."""
        tmp = self._store.tmp
        own_name = tmp.owner()
        stated: dict[str, Stated | None] = {own_name: None}
        unstated = 0
        for name in sorted(os.listdir(tmp.path)):
            owner = name.partition(".")[0]
            if owner not in stated:
                stated[owner] = self._stated(owner)
            if owner != own_name and stated[owner] is None:
                unstated += self._sometimes(os.path.join(tmp.path, name))
        return {owner: one for owner, one in stated.items() if one is not None}, unstated

    def _stated(self, owner: str) -> Stated | None:
        path = os.path.join(self._store.tmp.path, owner)
        if not is_alive(path + ".lock"):
            return None
        try:
            with open(path + _SUFFIX, "rb", opener=plain) as file:
                return Stated.decode(file.read())
        except OSError:
            return None  # it has no ceiling, and does not say

    def _count_blobs(self) -> int:
        folder = os.path.join(self._store.root, "blobs")
        sizes: dict[str, int] = {}
        for algorithm in os.listdir(folder):
            place = os.path.join(folder, algorithm)
            for name in os.listdir(place):
                size = self._blobs.get(name)
                if size is None:
                    size = self._store.measure(os.path.join(place, name)).size
                sizes[name] = size
        self._blobs = sizes
        return sum(sizes.values())

    def _count_deltas(self) -> int:
        sizes: dict[str, int] = {}
        for id in self._store.deltas.ids():
            size = self._deltas.get(id)
            sizes[id] = delta_size(self._store, id) if size is None else size
        self._deltas = sizes
        return sum(sizes.values())

    def _rest(self, active: set[str]) -> int:
        """Measure what else is in the store; what somebody states he changes is his."""
        root, total = self._store.root, 0
        for name in os.listdir(root):
            if name in _IN_PLACE:
                paths = [os.path.join(name, one) for one in os.listdir(os.path.join(root, name))]
                total += sum(self._sometimes(os.path.join(root, p)) for p in set(paths) - active)
            # A server's clients have stores, and ceilings, of their own.
            elif name not in ("blobs", "snapshots", "tmp", "owners"):
                total += self._sometimes(os.path.join(root, name))
        return total

    def _sometimes(self, path: str) -> int:
        now = time.monotonic()
        at, size = self._changing.get(path, (0.0, 0))
        if now - at > _FRESH_S:
            size = self._store.measure(path).size
            self._changing[path] = now, size
        return size

    def forget(self) -> None:
        """Measure everything that can change anew the next time."""
        self._changing.clear()
