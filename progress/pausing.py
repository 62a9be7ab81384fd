"""A view that makes way for a while, for somebody to use the terminal."""

from __future__ import annotations

from pybuild.model.events import Event
from pybuild.progress.display import Display
from pybuild.progress.tty import TtyDisplay


class PausableDisplay:
    """Shows on another view what comes; what comes during a pause, after it."""

    def __init__(self, view: Display) -> None:
        self._view = view
        self._held: list[Event] | None = None

    def show(self, event: Event) -> None:
        if self._held is None:
            self._view.show(event)
        else:
            self._held.append(event)

    def pause(self) -> None:
        """Write nothing from now on."""
        self._held = []
        if isinstance(self._view, TtyDisplay):
            self._view.leave()

    def resume(self) -> None:
        """Show what has come meanwhile, and go on."""
        held, self._held = self._held or [], None
        if isinstance(self._view, TtyDisplay):
            self._view.come_back()
        for event in held:
            self._view.show(event)

    def close(self) -> None:
        self._view.close()
