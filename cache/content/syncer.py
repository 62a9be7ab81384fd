"""Flushing the file system behind committed deltas, in the background."""

from __future__ import annotations

import os
from _thread import allocate_lock, get_native_id

from pybuild.cache.disk.atomic import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pybuild.cache.disk.atomic import Warn

# Commits that come within this time share one flush. While a flush is going its process cannot end,
# so one that leaves flushing to another begins with it only when it goes on for long.
DURABLE = "durable"
"""The file beside a delta that says that it is on the disk."""

_GATHER_S = 0.5
_GATHER_FOR_LONG_S = 30.0


class Syncer:
    """Calls *mark* for each added id, once all its files are on the disk.

    The first flush of a process also takes what earlier processes of this boot left unmarked
    (*backlog*): they were killed, or ended before they came to it.

    Attributes:
        hand_over: has the directory flushed by somebody who outlives us, when we close; None: we
            flush it then.
    """

    hand_over: Callable[[str], object] | None = None
    _wake: threading.Event
    _stop: threading.Event

    def __init__(
        self,
        disk: Disk,
        folder: str,
        backlog: Callable[[], list[str]],
        mark: Callable[[str], None],
        warn: Warn,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._backlog: Callable[[], list[str]] | None = backlog
        self._mark = mark
        self._warn = warn
        self._lock = allocate_lock()
        self._pending: list[str] = []
        self._thread: threading.Thread | None = None
        self._is_requested = self._is_closed = False

    def want(self) -> None:
        """Flush when we close, or have it flushed, also if no id was added."""
        self._is_requested = True

    def add(self, id: str, *, now: bool) -> None:
        """Take care of *id*; with *now*, before returning.

        Raises:
            OSError: with *now*, it could not be flushed.
        """
        with self._lock:
            self._pending.append(id)
            if not now and self._thread is None and not self._is_closed:
                import threading

                self._wake, self._stop = threading.Event(), threading.Event()
                self._thread = threading.Thread(target=self._run, name="store-syncer", daemon=True)
                self._thread.start()
        if now:
            self._flush()
        if self._thread is not None:
            self._wake.set()

    def flush(self) -> None:
        """Flush what is pending, now; a failure is a warning."""
        try:
            self._flush()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            self._warn(f"snapshots may be lost in a power failure: cannot flush: {reason}")

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
            backlog, self._backlog = self._backlog, None
        if backlog is not None:
            pending = sorted({*pending, *backlog()})
        if not pending and not self._is_requested:
            return
        self._disk.flush_file_system(self._folder)
        for id in pending:
            self._mark(id)

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, get_native_id(), 19)  # this thread only
        except OSError:
            pass
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            self._stop.wait(_GATHER_FOR_LONG_S if self.hand_over else _GATHER_S)
            if not self._stop.is_set():
                self.flush()

    def close(self) -> None:
        """Flush what is left, or have it flushed, and stop."""
        with self._lock:
            self._is_closed = True
        if self._thread is not None:
            self._stop.set()
            self._wake.set()
            self._thread.join()
        if not self._pending and not self._is_requested:
            return
        if self.hand_over is not None:
            try:
                self.hand_over(self._folder)
                return
            except OSError:
                pass  # then it is ours
        self.flush()
