"""The ceiling: the store never takes more of the disk than it may, also while builds write.

A process asks for room before it writes and gets some in advance; what it has written it measures.
Each states both where the others can read it (`Holdings`), under one lock. Who gets no room frees
what has the least value, and where nothing can go, the one that writes most fails.

Measuring walks directories, so it is done five times a second, and at once when the free space of
the file system, which costs nothing to ask, has shrunk by a good part of what was granted. The
faster a process writes, the more it asks for in advance, so that there is time to make room.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from pybuild.cache.content.origins import Origin
from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import locked
from pybuild.cache.space.advance import Advance
from pybuild.cache.space.budget import TooMuch
from pybuild.cache.space.evictor import Evictor
from pybuild.cache.space.holdings import Count, Holdings, Stated
from pybuild.cache.space.writers import Writers
from pybuild.cache.store import Store
from pybuild.model.amounts import human_bytes
from pybuild.model.errors import EnvironmentFault, PybuildError

_ASK_S = 0.01
_IDLE_S = 1.0
_LOOK_S = 0.2
# Looking may take a third of the time of one processor, no more.
_REST = 2.0
# How long a new job waits for others to be done with what they were granted.
_PATIENCE_S = 10.0
# How long one waits for another process that writes more to be done, and until what part of the
# ceiling more is taken: what ended may need a while to be deleted.
YIELD_S, _YIELD_PART = 1.0, 100
# What part of the ceiling last results of builds keep, whatever else is to be written: making an
# image takes its size twice, as a delta and as a layer.
_LAST_RESULTS_PART = 3
# Writers are ended this part below the ceiling: they write on until they have heard and gone.
_MARGIN = 100


def keep_below(store: Store, ceiling: int) -> None:
    """Never let *store* take more than *ceiling* bytes while this process writes to it."""
    store.budget = store.deltas.budget = Ceiling(store, ceiling)


class Ceiling:
    """The work of one process to keep *store* below *ceiling* bytes. Safe to use from threads.

    Never on the thread of an event loop: making room may take as long as deleting does.

    Args:
        advance: of the space that is asked for; one of its own if None.
    """

    def __init__(self, store: Store, ceiling: int, advance: Advance | None = None) -> None:
        self.ceiling = ceiling
        self._store = store
        self._advance = advance or Advance(ceiling)
        self._writers = Writers()
        self._holdings = Holdings(store)
        self._mutex = os.path.join(store.root, "locks", "space")
        self._evictor = Evictor(store, ceiling // _LAST_RESULTS_PART)
        self._looking = threading.Lock()
        self._starting = threading.Lock()
        self._own = Stated()
        self._entries: dict[str, int] = {}
        self._free = 0
        self._changes, self._looked = 1, 0
        self._next_look = 0.0
        self._over_since: tuple[float, int] | None = None
        self._fault: EnvironmentFault | None = None
        self._thread: threading.Thread | None = None
        self._freeing: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = False

    # --- who writes -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make room for something new of unknown size, before it is begun.

        Raises:
            EnvironmentFault: there is none, and nothing can be freed.
        """
        self._await(0)
        self._start()

    def settle(self) -> None:
        """Count the bytes written since the last count, before they are kept.

        Raises:
            EnvironmentFault: it was too much, and nothing can be freed.
        """
        self._look()  # what the disk has left says nothing where others free as much as we write
        self._await(1)

    @contextmanager
    def reserved(self, size: int) -> Generator[None]:
        """Keep room for *size* bytes that are going to be written in the block.

        Raises:
            EnvironmentFault: there is none, and nothing can be freed.
        """
        with self._writers.reserving(size):
            self._await(size)
            self._start()
            yield

    @contextmanager
    def writing(self, path: str, too_much: TooMuch) -> Generator[None]:
        """Watch what is written to *path*, in ``tmp/`` or of ``contexts/``, in the block.

        Args:
            too_much: called in another thread when the ceiling is reached, nothing can be freed
                and nobody else of this process writes more. What is written must end then.
        """
        within = os.path.relpath(path, self._store.root).split(os.sep)
        is_context = os.path.join(self._store.root, within[0]) == self._store.contexts_dir
        place = os.path.join(*within[:2])
        writing = self._writers.writing(place if is_context else within[1], too_much)
        try:
            with writing, self.mounting([place]) if is_context else nullcontext():
                self._start()
                yield
        finally:
            self._evictor.insist()  # it may leave the space that is needed

    def covers(self, path: str) -> bool:
        """Return whether *path* is a place that is watched."""
        places = (self._store.tmp.path, self._store.contexts_dir)
        return any(path.startswith(place + os.sep) for place in places)

    @contextmanager
    def mounting(self, names: Sequence[str]) -> Generator[None]:
        """Watch cache mounts, too, in the block, by their paths below the store: steps write to them."""
        try:
            with self._writers.mounting(names):
                self.changed()
                yield
        finally:
            self.changed()

    def succeeding(self, origin: Origin) -> AbstractContextManager[None]:
        """Let the last result of *origin* go, if nothing else can, for the one made in the block."""
        return self._evictor.succeeding(origin)

    def changed(self) -> None:
        """Look soon: something was committed or given up."""
        self._next_look = 0.0
        self._changes += 1
        self._start()

    def close(self) -> None:
        """Stop watching."""
        self._stop = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        # Read only now: until it ended, the watcher may have begun to free.
        if (freeing := self._freeing) is not None:
            freeing.join()

    def _start(self) -> None:
        self._wake.set()
        with self._starting:
            if self._thread is None and not self._stop:
                self._thread = threading.Thread(target=self._run, name="store-room", daemon=True)
                self._thread.start()

    # --- asking -----------------------------------------------------------------------------------

    def _left(self) -> int:
        """Return the rest of the grant at least: as if all growth of the disk were ours."""
        spent = max(0, self._free - _free_bytes(self._store.root))
        return self._own.granted - self._own.used - spent

    def _await(self, size: int) -> None:
        """Return when *size* bytes may be written; 0: some part of what is asked for in advance."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        if (
            self._looked == self._changes
            and not self._writers.reserved_bytes()
            and self._left() >= self._needed(size)
        ):
            return
        deadline = time.monotonic() + _PATIENCE_S
        self._evictor.insist()  # a build is not failed by what was found a moment ago
        while True:
            count, over = self._look()
            if self._own.granted - self._own.used >= self._needed(size):
                return
            freed, late = over > 0 and self._free_some(), time.monotonic() >= deadline
            if late or not (freed or count.others):
                raise self._exceeded(count)
            if not freed:
                time.sleep(0.05)

    def _needed(self, size: int) -> int:
        # Looking adapts the advance, so a part of it is taken anew each time.
        return max(size or max(1, self._advance.size // 4), self._writers.reserved_bytes())

    def _look(self) -> tuple[Count, int]:
        """Measure, count, and state what we take; return the count, and what we want too much."""
        with self._looking, self._faults():
            return self._settle()

    def _free_some(self) -> bool:
        """Make room, a little more than is needed; tell whether to look again."""

        def over() -> int:
            self._holdings.forget()
            return self._look()[1]

        with self._faults():
            return self._evictor.free(over, self.ceiling // 50)

    def _faults(self) -> AbstractContextManager[None]:
        return faults("cannot keep the store below its ceiling", self._store.root)

    def _settle(self) -> tuple[Count, int]:
        """Take a grant of the space that is left; return the count, and the bytes that the grant lacks."""
        # Short, whatever there is to be freed: who is to be stopped must not wait for it.
        with locked(self._mutex):
            changes = self._changes
            count, own = self._measured()
            over = count.total(own, hopes=True) - self.ceiling
            granted = max(own.used, own.granted - max(0, over))
            self._own = replace(own, granted=granted)
            self._holdings.state(self._own)
        self._looked = changes
        return count, over

    def _measured(self) -> tuple[Count, Stated]:
        begun = time.monotonic()
        reserved, names = self._writers.reserved_bytes(), self._writers.mounts()
        self._free = _free_bytes(self._store.root)
        with self._store.tmp.moving:  # else what is committed meanwhile is counted twice
            self._entries = self._holdings.own()
            used = sum(self._entries.values())
            mounts = {name: self._holdings.mount(name) for name in names}
            self._advance.adapt(time.monotonic(), used + sum(mounts.values()))
            own = Stated(used, used + reserved + self._advance.size, mounts)
            count = self._holdings.count(own)
        now = time.monotonic()
        self._next_look = now + _REST * (now - begun)
        return count, own

    def _has_yielded(self) -> bool:
        """Return whether no job may go on writing above the ceiling any longer."""
        if self._over_since is None:
            return False
        since, free = self._over_since
        more = free - _free_bytes(self._store.root)
        return time.monotonic() - since > YIELD_S or more > self.ceiling // _YIELD_PART

    def _exceeded(self, count: Count) -> EnvironmentFault:
        """Return the error that names the holders of the space that is needed."""
        records = self._evictor.last_seen
        parts = {
            "images": sum(r.size for r in records if r.pinned and not r.last_of),
            "last results of builds": sum(r.size for r in records if r.last_of),
            "in use by running builds": sum(r.size for r in records if r.in_use and not r.pinned),
            "being written": self._own.used + sum(one.used for one in count.others.values()),
        }
        shares = ", ".join(f"{name} {human_bytes(size)}" for name, size in parts.items() if size)
        return EnvironmentFault(
            f"the store {self._store.root} would take more than its ceiling of "
            f"{human_bytes(self.ceiling)} (--cache-max), and nothing can be freed: {shares}",
            hints=(
                "raise the ceiling, or remove images with pybuild rmi",
                "pybuild du lists what is there; pybuild why-kept ID says what holds it",
            ),
        )

    # --- watching ---------------------------------------------------------------------------------

    def _run(self) -> None:
        idle_since = time.monotonic()
        while not self._stop:
            now = time.monotonic()
            if self._writers:
                idle_since = now
            if now - idle_since > _IDLE_S:
                self._wake.clear()
                self._watch(due=True)  # what is no longer ours, others may have
                self._wake.wait()
                idle_since = time.monotonic()
                continue
            self._watch(due=now - self._next_look > _LOOK_S)
            time.sleep(_ASK_S)

    def _watch(self, *, due: bool) -> None:
        if self._stop or not (due or self._left() < self._advance.size // 2):
            return
        if time.monotonic() < self._next_look:
            return
        try:
            count, excess = self._look()
            if excess > 0:
                self._free_soon()
            taken = count.total(self._own, hopes=False) + self._advance.written_while_it_ends()
            most = self.ceiling - self.ceiling // _MARGIN
            over = taken > most and self._evictor.is_vain()
            others = max((one.used for one in count.others.values()), default=0)
            # Where another process writes more, it has a moment to end that itself.
            if not over:
                self._over_since = None
            elif self._over_since is None:
                self._over_since = time.monotonic(), self._free
            if over and (self._own.used >= others or self._has_yielded()):
                self._fail(self._exceeded(count))
        except PybuildError as error:
            self._store.warn(error.message)
            self._next_look = time.monotonic() + _LOOK_S

    def _free_soon(self) -> None:
        """Make room in another thread: that takes long, and writers must be watched meanwhile."""
        if self._freeing is None:
            self._freeing = threading.Thread(
                target=self._make_room, name="store-evictor", daemon=True
            )
            self._freeing.start()

    def _make_room(self) -> None:
        try:
            self._free_some()
            self.changed()
        except PybuildError as error:
            self._store.warn(error.message)
        finally:
            self._freeing = None

    def _fail(self, fault: EnvironmentFault) -> None:
        """End the largest writer, or the next one to begin; one at a time."""
        anybody, too_much = self._writers.largest(self._entries | self._own.mounts)
        if too_much is not None:
            too_much(fault)
        elif not anybody:
            self._fault = fault if self._own.used > self._advance.size else None


def _free_bytes(path: str) -> int:
    disk = os.statvfs(path)
    return disk.f_bfree * disk.f_frsize
