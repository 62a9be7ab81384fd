"""Directories of clients as last received: ``<root>/contexts/<family>-<random>/`` [CTX-2].

    fs/         the tree, changed in place by the next transfer
    meta.json   what it was received as; its time is that of the last use
    lock, use   who may do what

A build reads a copy while others may want to bring theirs up to date. So a copy is never shared
between two that differ: who finds all copies of a family in use begins a new one, and what is more
than `KEPT` of a family goes when it is let go. Changing a tree in place, instead of linking its
files into a fresh one, keeps inodes and change times, by which digests are remembered.

``lock`` is held (exclusively) by the one who transfers, and for a moment by everybody who wants to
take ``use``; ``use`` is held by whoever reads. Both go with their process, so does the lease.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pybuild.cache.content.leases import Lease
from pybuild.cache.disk.locks import same_file
from pybuild.cache.store import Store
from pybuild.executor.trees.local import files_file, index_file
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError

KIND = "context"
KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOrigin:
    """Whose directory it is, as far as that is known.

    Attributes:
        owner: who may share copies.
        shared_key: the client's name for the directory; often empty.
        name: the client's name for its role: "context", "dockerfile", ...
        hint: keeps copies apart that are read from one directory for different ends.
        patterns: which part is sent; a copy of another part is a basis too, if there is none.
    """

    owner: str = ""
    shared_key: str = ""
    name: str
    hint: str = ""
    patterns: tuple[Sequence[str], Sequence[str], Sequence[str]] = ((), (), ())

    def family(self) -> str:
        return _digest([self.owner, self.shared_key, self.name, self.hint])[:32]

    def part(self) -> str:
        return _digest([list(patterns) for patterns in self.patterns])


class KeptCopy:
    """One copy, ours until `close`; blocking.

    Attributes:
        path: the tree.
        is_known: it is of a directory that the client gave a name to.
    """

    def __init__(self, copies: Copies, id: str, origin: CopyOrigin, fds: tuple[int, int]) -> None:
        self._copies = copies
        self._origin = origin
        self._lock, self._use = fds
        self.id = id
        self.home = os.path.join(copies.folder, id)
        self.path = os.path.join(self.home, "fs")
        self.lease = copies.store.leases.create()

    def received(self) -> None:
        """The tree is complete: let others read it, too, until it is changed again."""
        self._copies.note(self.id, self._origin)
        fcntl.flock(self._use, fcntl.LOCK_SH)  # nobody can come between: `lock` is ours
        os.close(self._lock)
        self._lock = -1

    def give_up(self) -> None:
        """It fills the disk, and the next copy may not: free its space; still to be closed."""
        if self._lock < 0:
            return  # complete, and perhaps read by others
        forget(self._copies.store, self.path)
        with suppress(PybuildError):  # its record may find no place to be removed; prune does that
            self._copies.remove(self.id)

    def close(self) -> None:
        """Let go of it; idempotent."""
        if self._use < 0:
            return
        self.lease.close()
        for fd in (self._use, self._lock):
            if fd >= 0:
                os.close(fd)
        self._use = self._lock = -1
        self._copies.thin_out(self._origin.family())


class Copies:
    """All copies of a store; blocking, safe to use from threads and several processes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.folder = store.contexts_dir
        self._thinning = threading.Lock()

    def take(self, origin: CopyOrigin) -> KeptCopy:
        """Return a copy to be brought up to date: a kept one that is free, or an empty one.

        Raises:
            OSError: the store cannot be written.
        """
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        family, part = origin.family(), origin.part()
        copies = self._family(family)
        # The same part first, then the one last used.
        copies.sort(key=lambda one: (one[1].get("part") == part, one[2]), reverse=True)
        for id, _, _ in copies:
            copy = self._try(id, origin)
            if copy is not None:
                return copy
        while True:
            id = f"{family}-{os.urandom(8).hex()}"
            made = self.store.scratch(KIND)
            os.makedirs(os.path.join(made, "fs"), mode=0o700)
            os.chmod(os.path.join(made, "fs"), 0o755)
            _write_meta(made, origin)
            os.rename(made, os.path.join(self.folder, id))
            copy = self._try(id, origin)
            if copy is not None:
                return copy

    def note(self, id: str, origin: CopyOrigin) -> None:
        """Remember that a copy was used, for those who free space."""
        store = self.store
        home = os.path.join(self.folder, id)
        _write_meta(home, origin)
        now = store.clock.now()
        before = store.records.get(KIND, id) or {}
        count = before.get("count")
        facts = {
            "description": f"local source for {origin.name}",
            "created": before.get("created", now),
            "used": now,
            "count": count + 1 if isinstance(count, int) else 1,
        }
        store.records.put(KIND, id, facts)

    def thin_out(self, family: str) -> None:
        """Remove free copies beyond the number to keep."""
        with self._thinning:
            copies = sorted(self._family(family), key=lambda one: one[2], reverse=True)
            for id, _, used in copies[KEPT:]:
                fds = self._locks(id)
                if fds is None:
                    continue
                try:
                    if used == self._used(id):
                        self.remove(id)
                finally:
                    for fd in fds:
                        os.close(fd)

    def _used(self, id: str) -> int:
        try:
            return os.stat(os.path.join(self.folder, id, "meta.json")).st_mtime_ns
        except FileNotFoundError:
            return -1

    def remove(self, id: str) -> None:
        """Remove a copy both of whose locks are ours, its record first."""
        with self.store.leases.collecting():
            self.store.records.delete(KIND, id)
            forget(self.store, os.path.join(self.folder, id, "fs"))
            self.store.discard(os.path.join(self.folder, id))

    def _family(self, family: str) -> list[tuple[str, dict[str, Any], int]]:
        """Return id, meta and time of last use of each copy."""
        copies: list[tuple[str, dict[str, Any], int]] = []
        try:
            names = sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        for name in names:
            if not name.startswith(family + "-"):
                continue
            path = os.path.join(self.folder, name, "meta.json")
            try:
                with open(path, encoding="utf-8") as file:
                    meta = json.load(file)
                    time = os.fstat(file.fileno()).st_mtime_ns
            except (OSError, ValueError):
                continue  # going, or damaged; prune finds it
            if isinstance(meta, dict):
                copies.append((name, meta, time))  # pyright: ignore[reportUnknownArgumentType]
        return copies

    def _try(self, id: str, origin: CopyOrigin) -> KeptCopy | None:
        """Take a copy if nobody has it, and lease it."""
        fds = self._locks(id)
        if fds is None:
            return None
        copy = KeptCopy(self, id, origin, fds)
        try:
            copy.lease.add(KIND, id)
            if os.path.isdir(copy.path) and same_file(fds[0], os.path.join(copy.home, "lock")):
                return copy
        except BaseException:
            _drop(copy.lease, fds)
            raise
        _drop(copy.lease, fds)
        return None

    def _locks(self, id: str) -> tuple[int, int] | None:
        home = os.path.join(self.folder, id)
        fds: list[int] = []
        try:
            for name in ("lock", "use"):
                path = os.path.join(home, name)
                fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                fcntl.flock(fds[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fds[0], fds[1]
        except (BlockingIOError, FileNotFoundError):
            for fd in fds:
                os.close(fd)
            return None
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise


def forget(store: Store, tree: str) -> None:
    """Remove a tree and the index of its files; its readers have to be done."""
    index = index_file(os.path.join(store.root, "statindex"), tree)
    for path in (index, files_file(index)):
        with suppress(OSError):
            os.unlink(path)
    store.discard(tree)


def _drop(lease: Lease, fds: Sequence[int]) -> None:
    lease.close()
    for fd in fds:
        os.close(fd)


def _write_meta(home: str, origin: CopyOrigin) -> None:
    text = json.dumps({"name": origin.name, "hint": origin.hint, "part": origin.part()})
    tmp = os.path.join(home, "meta.new")
    with suppress(FileNotFoundError):
        os.unlink(tmp)
    with open(tmp, "x", encoding="utf-8") as file:
        file.write(text)
    os.replace(tmp, os.path.join(home, "meta.json"))


def _digest(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
