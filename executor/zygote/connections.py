"""Network namespaces that lead outside, each for one step at a time.

To make one takes a few milliseconds, to enter one nothing. So a step leaves its namespace to the next
one, if nothing of the step is left in it: no socket that lives on without a process, no connection that
the kernel remembers. How one is made, `networks` knows; a function of its is called here by name.
"""

from __future__ import annotations

import os
import sys

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.executor.steps.spec import Connecting

_MOST_WAITING = 16
_SOCKETS_BYTES = 4096


class StepNetwork:
    """A network namespace, held open.

    Args:
        made_by: makes others like it.
        namespace: its descriptor.
        sockets: that of its ``/proc/net/sockstat``.
    """

    def __init__(self, made_by: Connecting, namespace: int, sockets: int) -> None:
        self.made_by = made_by
        self.namespace = namespace
        self._sockets = sockets

    def enter(self) -> None:
        """Make it that of this process."""
        syscalls.setns(self.namespace, syscalls.CLONE_NEWNET)

    def is_as_new(self) -> bool:
        """Whether nothing of those who were in it is left there: sockets, connections that are remembered."""
        words = os.pread(self._sockets, _SOCKETS_BYTES, 0).split()
        return all(words[words.index(name) + 1] == b"0" for name in (b"used", b"tw"))

    def close(self) -> None:
        """Let go of it: it ends with the last process in it."""
        syscalls.close_quietly(self.namespace, self._sockets)

    def fds(self) -> tuple[int, int]:
        return self.namespace, self._sockets


class StepNetworks:
    """All of a zygote."""

    def __init__(self) -> None:
        self._waiting: list[StepNetwork] = []

    def take(self, made_by: Connecting | None) -> StepNetwork | None:
        """Return one for a step that asks for one, made if none waits.

        Raises:
            OSError, Fault: it cannot be made.
        """
        if made_by is None:
            return None
        for one in self._waiting:
            if one.made_by == made_by:
                self._waiting.remove(one)
                return one
        return _make(made_by)

    def make_ahead(self, made_by: Connecting, number: int) -> None:
        """Have so many of a kind wait; should one be impossible, the step that asks for it hears why."""
        missing = number - sum(one.made_by == made_by for one in self._waiting)
        try:
            for _ in range(missing):
                self._waiting.append(_make(made_by))
        except (OSError, Fault):
            pass

    def give_back(self, network: StepNetwork | None) -> None:
        """Take back that of a step which has ended."""
        if network is None:
            return
        may_wait = len(self._waiting) < _MOST_WAITING and not network.made_by.once
        if may_wait and network.is_as_new():
            self._waiting.append(network)
        else:
            network.close()

    def rest(self) -> None:
        """Let go of those that wait."""
        while self._waiting:
            self._waiting.pop().close()

    def fds(self) -> list[int]:
        return [fd for one in self._waiting for fd in one.fds()]


def _make(made_by: Connecting) -> StepNetwork:
    module, _, name = made_by.function.partition(":")
    __import__(module)
    make: Callable[..., tuple[int, int]] = getattr(sys.modules[module], name)
    return StepNetwork(made_by, *make(*made_by.words))
