"""Deltas: committed directories of changes, ``snapshots/<id>/fs`` [STO-3].

Commit is a rename. The files in it were written without flushing, so a delta counts for this boot
of the machine only, until the file system as a whole was flushed behind it; then it is marked
*durable*. After a power failure the others are treated as missing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping

from pybuild.cache.content.leases import Lease
from pybuild.cache.content.patches import whole_of, with_wholes
from pybuild.cache.content.syncer import DURABLE, Syncer
from pybuild.cache.disk.atomic import Disk, faults
from pybuild.cache.disk.custody import file_system
from pybuild.cache.disk.locks import boot_id
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.disk.scratch import Scratch
from pybuild.model.jsontext import as_object, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from pybuild.cache.disk.atomic import Warn
    from pybuild.cache.space.budget import Budget
    from pybuild.model.clock import Clock

_MOST_LETTERS = 200
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class ActiveDelta:
    """A delta that is being written.

    Attributes:
        path: its directory in ``tmp/``; *fs*, *work*: overlay's upper and work directories in it.
    """

    __slots__ = ("fs", "path", "work")

    def __init__(self, path: str) -> None:
        self.path = path
        self.fs = os.path.join(path, "fs")
        self.work = os.path.join(path, "work")


class Deltas:
    """The deltas of one store. Safe to use from threads and processes at once.

    Attributes:
        budget: keeps the store below its ceiling, where it has one.
    """

    budget: Budget | None = None

    def __init__(
        self, root: str, disk: Disk, scratch: Scratch, own: Lease, clock: Clock, warn: Warn
    ) -> None:
        self._root = root
        self._folder = os.path.join(root, "snapshots")
        self._disk = disk
        self._scratch = scratch
        self._own = own
        self._clock = clock
        self._boot = boot_id()
        self._whole: set[str] = set()  # known to be so, in this boot, if they are there
        self._syncer = Syncer(disk, self._folder, self._undurable, self._mark, warn)

    def leased_by(self, lease: Lease) -> Self:
        """Return the same deltas; what is made and nobody else leases is *lease*'s."""
        from copy import copy

        twin = copy(self)
        twin._own = lease
        return twin

    @property
    def is_quick(self) -> bool:
        """Return whether `commit` waits for nothing: there is no ceiling, and no flush."""
        return self.budget is None and self._boot is not None

    def begin(self) -> ActiveDelta:
        """Make an empty delta to write to.

        Raises:
            EnvironmentFault: it cannot be made, or the store is at its ceiling.
        """
        if self.budget is not None:
            self.budget.prepare()
        active = ActiveDelta(self._scratch.name())
        with faults("cannot begin a snapshot", self._root):
            try:
                self._disk.mkdir(active.path)
                self._disk.mkdir(active.fs, 0o755)
                self._disk.mkdir(active.work)
            except BaseException:
                self.abort(active)
                raise
        return active

    def commit(
        self,
        active: ActiveDelta,
        id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        lease: Lease | None = None,
    ) -> str:
        """Give *active* its name and return that; leased by *lease*, else until the store closes.

        If the id is taken already, the delta of that name stays and *active* is discarded.

        Args:
            id: None makes a random one.
            meta: small JSON-able facts to keep with it, such as ``size``.

        Raises:
            EnvironmentFault: it cannot be committed; *active* is discarded.
        """
        id = id or os.urandom(16).hex()
        try:
            target = self._directory(id)
            (lease or self._own).add("delta", id)
            with faults(f"cannot commit snapshot {id}", self._root):
                if os.path.lexists(active.work):
                    self._scratch.trash(active.work)
                facts = {**(meta or {}), "boot": self._boot, "created": self._clock.now()}
                fd = self._disk.create(os.path.join(active.path, "meta.json"))
                try:
                    import json

                    self._disk.write(fd, json.dumps(facts, sort_keys=True).encode())
                finally:
                    os.close(fd)
                with self._scratch.moving:
                    ours = self._rename(active.path, target, id)
                if ours:
                    if self._boot is not None:
                        self._whole.add(id)
                    self._syncer.add(id, now=self._boot is None)
        except BaseException:
            self.abort(active)
            raise
        if not ours:
            self.abort(active)
        if self.budget is not None:
            self.budget.changed()
        return id

    def _rename(self, source: str, target: str, id: str) -> bool:
        """Return whether *source* became *target*; not so if that is there and whole."""
        for _ in range(8):
            try:
                self._disk.rename(source, target)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            if self.has(id):
                return False
            self._scratch.trash(target)  # a leftover of another boot, or a stranger's file
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), target)

    def abort(self, active: ActiveDelta) -> None:
        """Discard *active*; its files go in the background. Never raises for what is gone."""
        try:
            self._scratch.trash(active.path)
        except OSError:
            pass  # it stays under our name in tmp/, and goes when this process ends

    def path(self, id: str) -> str:
        """Return the directory of changes, whether it exists or not; of a patch, its own.

        Raises:
            ValueError: *id* is no name for a delta.
        """
        return os.path.join(self._directory(id), "fs")

    def directories(self, id: str) -> list[str]:
        """Return the directories that make up the delta, base first: two for a patch."""
        return [self.path(one) for one in with_wholes([id])]

    def _directory(self, id: str) -> str:
        if not _is_name(id):
            raise ValueError(f"invalid snapshot id {id!r}")
        return os.path.join(self._folder, id)

    def has(self, id: str) -> bool:
        """Return whether the delta is there and whole. To rely on it, lease it first."""
        directory = self._directory(id)
        if not os.path.isdir(directory + "/fs"):
            return False
        whole = whole_of(id)
        if whole is not None and not self.has(whole):
            return False
        # The rest is asked once: each step of a chain makes us look at all deltas below it.
        if id not in self._whole:
            if not os.path.exists(os.path.join(directory, DURABLE)) and (
                self._boot is None or self.meta(id).get("boot") != self._boot
            ):
                return False
            self._whole.add(id)
        return True

    def has_name(self, id: object) -> bool:
        """Return whether *id*, which may be anything, is the name of a delta that is there."""
        return isinstance(id, str) and _is_name(id) and self.has(id)

    def meta(self, id: str) -> dict[str, Any]:
        """Return ``created`` (seconds since the epoch), ``boot``, and what `commit` was given.

        Empty if the delta is not there or half-written.
        """
        try:
            with open(os.path.join(self._directory(id), "meta.json"), "rb", opener=plain) as file:
                return as_object(parse(file.read()))
        except OSError:
            return {}

    def take_away(self, id: str) -> str | None:
        """Make the delta vanish, whoever uses it; `prune` is the careful way.

        Returns where it waits for `Scratch.delete`, or None if it was gone.

        Raises:
            EnvironmentFault: it cannot be moved away.
        """
        with faults(f"cannot remove snapshot {id}", self._root):
            return self._scratch.take_away(self._directory(id))

    def ids(self) -> Iterator[str]:
        """Yield the ids of all deltas, whole or not; what others put there is passed over."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _is_name(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def flush(self) -> None:
        """Make all deltas of this boot durable, now."""
        self._syncer.flush()

    def flush_after_us(self, hand_over: Callable[[str], object] | None = None) -> None:
        """Let closing wait for no disk: *hand_over* gets the directory that is to be flushed.

        Args:
            hand_over: default: a process of its own; nobody where the store lies in memory. OSError
                leaves it to us.
        """
        self._syncer.hand_over = hand_over or _hand_over

    def close(self, *, others: bool = False) -> None:
        """Flush what is left, or have it flushed.

        Args:
            others: something else on the same file system has to be.
        """
        if others:
            self._syncer.want()
        self._syncer.close()

    def _undurable(self) -> list[str]:
        """Return the deltas that any process committed in this boot and that are not durable."""
        undurable: list[str] = []
        for id in self.ids():
            if os.path.exists(os.path.join(self._folder, id, DURABLE)):
                continue
            if self.meta(id).get("boot") == self._boot:
                undurable.append(id)
        return undurable

    def _mark(self, id: str) -> None:
        try:
            os.close(self._disk.create(os.path.join(self._folder, id, DURABLE)))
        except (FileExistsError, FileNotFoundError):
            pass  # somebody else was faster, or removed it


def _hand_over(folder: str) -> None:
    """Have a process of its own flush *folder*.

    Raises:
        OSError: it cannot be started, or there is no disk to wait for.
    """
    if file_system(folder) in ("tmpfs", "ramfs"):
        raise OSError(f"{folder} lies in memory")
    from pybuild.cache.content.flusher import hand_over

    hand_over(folder)


def _is_name(id: str) -> bool:
    """Whether it can be the name of a delta; `re` would take longer to load than a command takes."""
    begins = id[:1] in _LETTERS and bool(id)
    return begins and len(id) <= _MOST_LETTERS and not id.strip(_LETTERS + "._-")
