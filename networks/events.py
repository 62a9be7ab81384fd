"""A poll over descriptors and times, for the process beside a container that serves its networks."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Events:
    """Descriptors with what is to be done when they are ready, and things to be done later."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._later: dict[object, tuple[float, Callable[[], None]]] = {}

    def watch(self, fd: int, act: Callable[[], None], events: int = READ) -> None:
        """Call *act* when *fd* is ready; again for other *events* of one that is watched."""
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = act

    def forget(self, fd: int) -> None:
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def is_idle_but(self, fds: Collection[int]) -> bool:
        """Whether nothing is to be done later, and nobody waited for but at *fds*."""
        return not self._later and self._ready.keys() <= set(fds)

    def after(self, seconds: float, key: object, act: Callable[[], None]) -> None:
        """Call *act* in so many seconds, unless *key* is said again or taken back before."""
        self._later[key] = (time.monotonic() + seconds, act)

    def take_back(self, key: object) -> None:
        self._later.pop(key, None)

    def turn(self) -> None:
        """Wait for something, and do it."""
        first = min((at for at, _ in self._later.values()), default=None)
        patience = -1.0 if first is None else max(0.0, first - time.monotonic())
        for fd, act in [(fd, self._ready.get(fd)) for fd, _ in self._epoll.poll(patience)]:
            # Else it was closed meanwhile, and its number is perhaps another's, of whom nothing was said.
            if act is not None and self._ready.get(fd) == act:
                act()
        now = time.monotonic()
        for key in [key for key, (at, _) in self._later.items() if at <= now]:
            _, act = self._later.pop(key, (0.0, _nothing))
            act()


def _nothing() -> None:
    """Do nothing: it was taken back by another that was due at the same time."""
