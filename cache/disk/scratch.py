"""``tmp/``: what is being written, and what waits for deletion.

Names say whose an entry is: ``<owner>.<random>`` belongs to the process that holds the lock on
``<owner>.lock``; everything else, ``trash.<random>`` above all, belongs to nobody. What belongs to
nobody, or to somebody dead, is deleted in the background, by whichever process writes next.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # the C part; threading.py takes longer than all of this

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.disk.locks import LiveFile, bury
from pybuild.cache.disk.trees import Stopped, remove_tree
from pybuild.model.lightlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    Remover = Callable[[str], int]
    """Deletes a directory tree and returns the bytes that came free."""

# How long closing lets the janitor finish. The leavings of a build are small and gone in
# milliseconds; a big tree is left to the next process.
GRACE_S = 1.0
# What is thrown away within this time is deleted together: each sweep lists everything, and a janitor
# that runs after each step of a build takes the interpreter from the next one.
_GATHER_S = 0.05


class Scratch:
    """Gives names in ``tmp/`` and cleans up. Safe to use from threads.

    Args:
        brief: there is no thread for it: what nobody owns is deleted by `close`.

    Attributes:
        moving: held while something moves from here to its place, and by who counts both.
    """

    _requested: threading.Event
    _idle: threading.Event
    _hurry: threading.Event

    def __init__(
        self, root: str, disk: Disk, remover: Remover | None, *, brief: bool = False
    ) -> None:
        self.path = os.path.join(root, "tmp")
        self._disk = disk
        self._remover = remover
        self._brief = brief
        self._lock = allocate_lock()
        self.moving = allocate_lock()
        self._owner: LiveFile | None = None
        self._janitor: threading.Thread | None = None
        self._is_due = self._stop = False
        self._end = 0.0
        self._folder = -1

    def hold(self) -> None:
        """Keep ``tmp/`` open: whatever its path leads to later, we delete in this one only.

        Raises:
            OSError: it is no directory.
        """
        if self._folder < 0:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            self._folder = os.open(self.path, flags)

    def name(self, label: str = "") -> str:
        """Return an unused path in ``tmp/`` that is ours while this process lives."""
        return os.path.join(self.path, f"{self.owner()}.{os.urandom(8).hex()}{label}")

    def owner(self) -> str:
        """Return the prefix of our entries' names, before a dot."""
        with self._lock:
            if self._owner is None:
                self._owner = LiveFile(self._disk, self.path, ".lock")
                self._start()
            return self._owner.name

    def trash(self, path: str) -> None:
        """Make *path* vanish now and be deleted soon; it may be a tree or a file.

        Raises:
            OSError: it is still there.
        """
        try:
            self._disk.rename(path, os.path.join(self.path, f"trash.{os.urandom(8).hex()}"))
        except FileNotFoundError:
            return
        with self._lock:
            self._start()
            if self._janitor is not None:
                self._idle.clear()
                self._requested.set()

    def take_away(self, path: str) -> str | None:
        """Make *path* vanish now, to be deleted by `delete`; return its new one, None if gone.

        Raises:
            OSError: it is still there.
        """
        taken = self.name()
        try:
            self._disk.rename(path, taken)
        except FileNotFoundError:
            return None
        return taken

    def _start(self) -> None:
        self._is_due = True
        if self._janitor is None and not self._stop and not self._brief:
            import threading

            self._requested, self._idle = threading.Event(), threading.Event()
            self._hurry = threading.Event()
            self._janitor = threading.Thread(target=self._clean, name="store-janitor", daemon=True)
            self._requested.set()
            self._janitor.start()

    def _clean(self) -> None:
        from _thread import get_native_id

        try:
            os.setpriority(os.PRIO_PROCESS, get_native_id(), 19)  # this thread only
        except OSError:
            pass
        while not self._stop:
            self._requested.wait()
            self._hurry.wait(_GATHER_S)
            self._requested.clear()
            try:
                self.sweep()
            except (Stopped, OSError):
                pass
            if not self._requested.is_set():
                self._idle.set()

    def sweep(self) -> int:
        """Delete everything in ``tmp/`` that no living process owns; return the bytes freed.

        Raises:
            Stopped: the store is being closed. OSError: ``tmp/`` cannot be listed.
        """
        dead: dict[str, bool] = {}
        freed = 0
        # Locks last: a lock that goes first would leave its owner's entries to be asked about
        # again; harmless, but a new entry's lock exists before the entry does.
        names = sorted(os.listdir(self._folder), key=lambda name: name.endswith(".lock"))
        for name in names:
            if self._is_over():
                raise Stopped
            owner = name.partition(".")[0]
            if owner not in dead:
                dead[owner] = bury(owner + ".lock", self._folder)
            if dead[owner]:
                freed += self.delete(os.path.join(self.path, name))
        return freed

    def delete(self, path: str) -> int:
        """Delete a tree or file of ``tmp/``, in this thread; return the bytes freed.

        What cannot be deleted, such as somebody else's files or a mount, the next process tries
        again.
        """
        with suppress(Exception):
            if self._remover is not None and os.path.isdir(os.path.join(path, "fs")):
                return self._remover(path)  # a delta: its files are of all ids
            try:
                return remove_tree(os.path.basename(path), self._is_over, self._folder)
            except PermissionError:
                # A worker costs more than what an ordinary step leaves beside its delta.
                if self._remover is not None:
                    return self._remover(path)
        return 0

    def _is_over(self) -> bool:
        return self._stop or 0 < self._end < time.monotonic()

    def close(self) -> None:
        """Delete what is quickly done, or let the janitor; own nothing any more."""
        if self._janitor is not None:
            self._hurry.set()
            self._idle.wait(GRACE_S)
        elif self._is_due and self._folder >= 0:
            self._end = time.monotonic() + GRACE_S
            with suppress(Stopped, OSError):
                self.sweep()
        self._stop = True
        if self._janitor is not None:
            self._requested.set()
            self._janitor.join()
        with self._lock:
            if self._owner is not None:
                self._owner.close()
                self._owner = None
            if self._folder >= 0:
                os.close(self._folder)
                self._folder = -1
