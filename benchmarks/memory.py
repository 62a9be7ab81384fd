"""The most memory that a builder's processes have at once, its steps' own programs not counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

_EVERY_S = 0.03


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
        self._clients = clients
        self._daemons = list(daemons)
        self._others = set(others) - set(self._daemons)
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
            total = sum(self._size(pid) for pid in self._members())
            self.peak_bytes = max(self.peak_bytes, total)

    def _members(self) -> set[int]:
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    # The name in brackets may hold anything, so we look behind its end.
                    stat = Path("/proc", name, "stat").read_text().rpartition(")")[2]
                    children.setdefault(int(stat.split()[1]), []).append(int(name))
        found: set[int] = set()
        waiting = [*(children.get(os.getpid(), []) if self._clients else ()), *self._daemons]
        while waiting:
            pid = waiting.pop()
            if pid not in found and pid not in self._others:
                found.add(pid)
                waiting += children.get(pid, [])
        return found

    def _size(self, pid: int) -> int:
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == self._namespace:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        return int(line.split()[1]) << 10
        return 0
