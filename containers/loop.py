"""A poll over descriptors and times: the monitor's only thread.

No event loop's library: a monitor is forked for each container, and every module of it is memory.
"""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_MS = 1 << 30
"""So long a wait the kernel takes; who waits for longer waits again."""


class Timer:
    """Something that is to be done at a time, if it is not cancelled before."""

    __slots__ = ("act", "at")

    def __init__(self, at: float, act: Callable[[], None]) -> None:
        self.at = at
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        self.act = None


class Loop:
    """Descriptors and times, with what is done when they are ready.

    Attributes:
        poller: descriptors that others watch in it are handed to *others*.
    """

    def __init__(self) -> None:
        self.poller = select.poll()
        self.others: Callable[[int], None] = lambda fd: None
        self._ready: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []

    def watch(self, fd: int, act: Callable[[int], None], events: int = select.POLLIN) -> None:
        """Call *act*, with what happened, whenever *fd* is ready for *events*."""
        self._ready[fd] = act
        self.poller.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch *fd* no longer; nothing happens where it was not."""
        if self._ready.pop(fd, None) is not None:
            self.poller.unregister(fd)

    def watched(self) -> tuple[int, ...]:
        return tuple(self._ready)

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        """Do something once, when the time has passed."""
        timer = Timer(time.monotonic() + seconds, act)
        self._timers.append(timer)
        return timer

    @property
    def has_timers(self) -> bool:
        """Whether anything is to be done at a time."""
        return any(timer.act is not None for timer in self._timers)

    def turn(self, most_ms: int | None = None) -> bool:
        """Wait until something is ready, for *most_ms* at most, and do what is to be done; False: there was nothing."""
        self._timers = [timer for timer in self._timers if timer.act is not None]
        now = time.monotonic()
        waits = [max(0, int(min(_MOST_MS, (one.at - now) * 1000)) + 1) for one in self._timers]
        waits += [] if most_ms is None else [most_ms]
        ready = self.poller.poll(min(waits) if waits else None)
        ours = frozenset(self._ready)
        for fd, events in ready:
            if fd in self._ready:
                self._ready[fd](events)
            elif fd not in ours:  # else what was done before in this turn has let go of it
                self.others(fd)
        now = time.monotonic()
        for timer in list(self._timers):
            if timer.at <= now and timer.act is not None:
                act, timer.act = timer.act, None
                act()
        return bool(ready)
