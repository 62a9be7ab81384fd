"""The events of a step that a worker runs, as the build has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pybuild.cluster.health import Misconduct
from pybuild.cluster.ticket import Said
from pybuild.model.digest import Digest
from pybuild.model.events import BuildWarning, Emit, VertexAdded, VertexLog, VertexProgress

MOST_LOG_BYTES = 1 << 30
MOST_EVENTS = 1 << 16
"""Events of a step that are no log: transfers say a few a second."""


class Hearing:
    """Passes on what is said of a run.

    What a worker says of other vertices, such as its transfers, is said here of vertices of this run alone:
    it can say nothing of the build's other steps.

    Args:
        pause: called with what the step waits for there, and with nothing when it does not any more.
    """

    def __init__(
        self,
        vertex: Digest,
        run: str,
        emit: Emit,
        pause: Callable[[str], None] = lambda what: None,
    ) -> None:
        self._vertex = vertex
        self._pause = pause
        self._run = run.encode()
        self._emit = emit
        self._log_bytes = 0
        self._events = 0

    def hear(self, said: Said) -> None:
        """Pass an event on.

        Raises:
            Misconduct: there are more than any step has.
        """
        event = said.event
        if event is None:
            return
        if isinstance(event, VertexLog):
            self._log_bytes += len(event.data)
        else:
            self._events += 1
        if self._log_bytes > MOST_LOG_BYTES:
            raise Misconduct(f"it said more than {MOST_LOG_BYTES} bytes of log of one step")
        if self._events > MOST_EVENTS:
            raise Misconduct(f"it said more than {MOST_EVENTS} events of one step")
        if isinstance(event, BuildWarning):
            self._emit(event)
            return
        if said.own and isinstance(event, VertexProgress) and not event.unit:
            self._pause("" if event.done else event.id)
        vertex = self._vertex if said.own else self._of_run(event.vertex)
        event = replace(event, vertex=vertex)
        if isinstance(event, VertexAdded):
            event = replace(event, inputs=tuple(self._of_run(one) for one in event.inputs))
        self._emit(event)

    def _of_run(self, vertex: Digest) -> Digest:
        return Digest.of(self._run + str(vertex).encode())
