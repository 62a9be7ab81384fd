"""The use of processes and their descendants: memory at its peak, and processor time."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

_EVERY_S = 0.03
_TICKS = os.sysconf("SC_CLK_TCK")


class Sampler:
    """Looks every few milliseconds, while it is the context; then `peak_bytes` is known.

    What counts is the proportional set size of our descendants and of *daemons*, so that pages
    which forked processes share count once. Processes in another pid namespace are those of steps.

    Args:
        others: processes whose descendants do not count.
        clients: count what we started ourselves.
    """

    def __init__(
        self, daemons: Iterable[int], others: Iterable[int] = (), *, clients: bool = True
    ) -> None:
        self.peak_bytes = 0
        self._roots = [*daemons]
        self._others = set(others) - set(self._roots)
        if clients:
            self._roots.append(os.getpid())
        self._namespace = os.readlink("/proc/self/ns/pid")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            parents = _descendants(self._roots, self._others)
            parents.pop(os.getpid(), None)
            sizes = {pid: self._size(pid) for pid in parents}
            # Between vfork and exec a child *is* its parent's memory, and so just as large.
            total = sum(size for pid, size in sizes.items() if size != sizes.get(parents[pid]))
            self.peak_bytes = max(self.peak_bytes, total)

    def _size(self, pid: int) -> int:
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == self._namespace:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        return int(line.split()[1]) << 10
        return 0


def processor_seconds(daemons: Iterable[int]) -> float:
    """Return the time that *daemons*, theirs and our own ended children have used, kernel included.

    Only differences mean something. What a daemon's descendant used counts while it runs and when
    its parent has waited for it.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = ended.ru_utime + ended.ru_stime
    for pid in _descendants(daemons, set()):
        with suppress(OSError, ValueError, IndexError):
            total += sum(map(int, _stat(pid)[11:15])) / _TICKS
    return total


def _stat(pid: int | str) -> list[str]:
    """Return the fields from the state on; the name before them may hold anything."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()


def _descendants(roots: Iterable[int], others: set[int]) -> dict[int, int]:
    """Return *roots* and all they have started, without *others* and theirs, with their parents."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                children.setdefault(int(_stat(name)[1]), []).append(int(name))
    parents: dict[int, int] = {}
    waiting = [(pid, 0) for pid in roots]
    while waiting:
        pid, parent = waiting.pop()
        if pid not in parents and pid not in others:
            parents[pid] = parent
            waiting += [(child, pid) for child in children.get(pid, ())]
    return parents
