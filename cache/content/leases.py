"""Leases: promises of living processes that what they use is not freed [STO-1, GC-4].

A lease is a file that its process holds a lock on, with a line for each thing it names. Whoever
frees holds the *collection lock*; whoever adds to a lease shares it. So after `Lease.add` a thing
is either gone already, and the caller must look, or it stays until the lease ends.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from pybuild.cache.content.patches import whole_of
from pybuild.cache.disk.atomic import Disk, discard, fault
from pybuild.cache.disk.locks import LiveFile, bury, is_alive, locked
from pybuild.cache.disk.plainfile import NotPlain, plain
from pybuild.model.lightlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from typing import Protocol, Self

    class Keeper(Protocol):
        """A promise to keep things: a `Lease`, or several in a row."""

        def add(self, kind: str, name: str) -> None: ...
        def add_all(self, things: list[tuple[str, str]]) -> None: ...


_LASTING = "lasting-"
KINDS = frozenset({"blob", "context", "delta", "mount"})


class Lease:
    """One process's promise. Safe to use from threads; ends with `close` or with the process."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._lock = allocate_lock()
        self._names: set[tuple[str, str]] = set()
        self._file: LiveFile | None = None

    def add(self, kind: str, name: str) -> None:
        """Keep the *kind* (of `KINDS`) called *name*; ask afterwards whether it exists.

        Raises:
            EnvironmentFault: the lease cannot be written.
        """
        self.add_all([(kind, name)])

    def add_all(self, things: list[tuple[str, str]]) -> None:
        """Keep all of *things*, at the price of one."""
        with self._lock:
            self._add(things, wait=True)

    def try_add(self, kind: str, name: str) -> bool:
        """Keep it if that can be done without waiting for anybody; tell whether.

        Raises:
            EnvironmentFault: the lease cannot be written.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            return self._add([(kind, name)], wait=False)
        finally:
            self._lock.release()

    def _add(self, things: list[tuple[str, str]], *, wait: bool) -> bool:
        new = sorted(set(things) - self._names)
        if not new:
            return True
        for kind, name in new:
            if kind not in KINDS or not name or "\n" in name:
                raise ValueError(f"cannot lease {kind} {name!r}")
        text = "".join(f"{kind} {name}\n" for kind, name in new).encode()
        try:
            self._leases.write(self, text, wait=wait)
        except BlockingIOError:
            return False
        except OSError as error:
            raise fault(error, "cannot write a lease", self._leases.root) from error
        self._names.update(new)
        return True

    def holds(self, things: list[tuple[str, str]]) -> bool:
        """Tell, without waiting for anything, whether all of *things* are kept already."""
        return self._names.issuperset(things)

    def write(self, disk: Disk, folder: str, text: bytes) -> None:
        """Append *text*; called under the collection lock."""
        if self._file is None:
            self._file = LiveFile(disk, folder)
        disk.write(self._file.fd, text)

    def close(self) -> None:
        """Promise nothing any more."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._names.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Leases:
    """All promises about one store, of all processes.

    Attributes:
        read_only: nothing can be promised, and we free nothing.
    """

    def __init__(self, root: str, disk: Disk) -> None:
        self.root = root
        self.read_only = False
        self._disk = disk
        self._folder = os.path.join(root, "leases")
        self._collection = os.path.join(root, "locks", "collection")

    def create(self) -> Lease:
        """Return a new, empty lease; it costs nothing before something is added."""
        return Lease(self)

    def write(self, lease: Lease, text: bytes, *, wait: bool) -> None:
        """Write under the collection lock; BlockingIOError where that is held and we do not wait."""
        if self.read_only:
            return
        with locked(self._collection, shared=True, wait=wait):
            lease.write(self._disk, self._folder, text)

    def keep(self, name: str, things: list[tuple[str, str]]) -> None:
        """Keep *things* under *name*, also when no process of ours lives any more, until `drop`.

        They are leased by the caller meanwhile, so they are there. Nothing else has this name.

        Raises:
            OSError: it cannot be written.
        """
        text = "".join(f"{kind} {thing}\n" for kind, thing in sorted(set(things))).encode()
        with locked(self._collection, shared=True):
            fd = self._disk.create(os.path.join(self._folder, _LASTING + name))
            try:
                self._disk.write(fd, text)
                self._disk.flush(fd)
            finally:
                os.close(fd)

    def drop(self, name: str) -> None:
        """Keep what is under *name* no longer."""
        discard(os.path.join(self._folder, _LASTING + name))

    @contextmanager
    def guard(self) -> Generator[None]:
        """Keep everybody from freeing anything meanwhile; for moments, not while working."""
        if self.read_only:
            yield
            return
        with locked(self._collection, shared=True):
            yield

    def collecting(self) -> AbstractContextManager[None]:
        """Hold the collection lock, to look at `held` and free; for moments too."""
        return locked(self._collection)

    def holders(self, kind: str, name: str) -> tuple[int, ...]:
        """Return the ids of the processes whose leases name it, or a patch of it, for people.

        Raises:
            EnvironmentFault: a lease cannot be read.
        """
        holders: set[int] = set()
        try:
            for entry in os.listdir(self._folder):
                path, pid = os.path.join(self._folder, entry), entry.partition("-")[0]
                if pid.isdecimal() and is_alive(path) and (kind, name) in _named(_text(path)):
                    holders.add(int(pid))
        except OSError as error:
            raise fault(error, "cannot read the leases", self.root) from error
        return tuple(sorted(holders))

    def lasting(self, kind: str, name: str) -> tuple[str, ...]:
        """Return the names under which `keep` keeps it, or a patch of it.

        Raises:
            EnvironmentFault: a lease cannot be read.
        """
        try:
            return tuple(
                sorted(
                    entry.removeprefix(_LASTING)
                    for entry in os.listdir(self._folder)
                    if entry.startswith(_LASTING)
                    and (kind, name) in _named(_text(os.path.join(self._folder, entry)))
                )
            )
        except OSError as error:
            raise fault(error, "cannot read the leases", self.root) from error

    def held(self) -> set[tuple[str, str]]:
        """Return the names in living leases; buries the dead ones.

        A lease that cannot be read counts as living: its names are unknown, so this raises.

        Raises:
            EnvironmentFault: a lease cannot be read, so nothing may be freed.
        """
        names: set[tuple[str, str]] = set()
        try:
            for name in os.listdir(self._folder):
                path = os.path.join(self._folder, name)
                if not name.startswith(_LASTING) and bury(path):
                    continue
                names |= _named(_text(path))
        except OSError as error:
            raise fault(error, "cannot read the leases", self.root) from error
        return names


def _text(path: str) -> bytes:
    """Read a lease; nothing is in one that ended just now, or is a stranger's. Raises OSError."""
    try:
        with open(path, "rb", opener=plain) as file:
            return file.read()
    except (FileNotFoundError, NotPlain):
        return b""


def _named(text: bytes) -> set[tuple[str, str]]:
    """Return the names that a lease's file keeps: with a patch, the delta that it changes.

    A line without its end is still being written: its `add` has not returned.
    """
    names: set[tuple[str, str]] = set()
    for line in text.decode("utf-8", "replace").split("\n")[:-1]:
        kind, space, thing = line.partition(" ")
        if space:
            names.add((kind, thing))
            whole = whole_of(thing) if kind == "delta" else None
            if whole is not None:
                names.add((kind, whole))
    return names


class RollingLease:
    """A lease for what many jobs of a long process share, such as results that a solver has loaded.

    It is a row of leases, a new one with each job: what is leased while a job goes on stays leased until
    that job ends, and every job that began while it was there. So a process that always has some job
    lets go of what is old all the same. Safe to use from threads.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._lock = allocate_lock()
        self._row: dict[int, Lease] = {0: leases.create()}
        self._newest = 0
        self._jobs: list[int] = []

    def add(self, kind: str, name: str) -> None:
        """As `Lease.add`, for as long as the jobs of now go on."""
        self.add_all([(kind, name)])

    def add_all(self, things: list[tuple[str, str]]) -> None:
        """As `Lease.add_all`."""
        with self._lock:
            self._row[self._newest].add_all(things)

    @contextmanager
    def during(self) -> Generator[None]:
        """Count as a job: what is leased from now on stays until the end of the block at least."""
        with self._lock:
            self._newest += 1
            number = self._newest
            self._row[number] = self._leases.create()
            self._jobs.append(number)
        try:
            yield
        finally:
            with self._lock:
                self._jobs.remove(number)
                oldest = min(self._jobs, default=self._newest + 1)
                ended = [self._row.pop(one) for one in list(self._row) if one < oldest]
                if not self._row:
                    self._newest += 1
                    self._row[self._newest] = self._leases.create()
            for lease in ended:
                lease.close()

    def close(self) -> None:
        """Promise nothing any more."""
        with self._lock:
            for lease in self._row.values():
                lease.close()
