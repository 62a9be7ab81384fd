"""``--break``: a build stands at steps, and whoever sits at the terminal looks around before it goes on."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from pybuild.builds.breakpoints import BreakPoint, BreakPoints
from pybuild.commands.stepshell import look_around
from pybuild.model.errors import Cancelled, UsageError
from pybuild.progress.ownterminal import choice, is_interactive
from pybuild.progress.pausing import PausableDisplay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builds.breakpoints import StoppedStep
    from pybuild.progress.display import Display

_SHELL, _GO_ON, _NEXT, _QUIT = b"scnq"
_MENU = {_SHELL: "[s]hell", _GO_ON: "[c]ontinue", _NEXT: "[n]ext step", _QUIT: "[q]uit"}


class AskAtBreak:
    """Asks at each stop of a build; steps that stop at the same time are asked about one after the other."""

    def __init__(self, *, debug: bool) -> None:
        self._display: PausableDisplay | None = None
        self._debug = debug
        self._turn = asyncio.Lock()

    def breaks(self, places: Sequence[str]) -> BreakPoints:
        """Return the break points at *places*.

        Raises:
            UsageError: nobody can be asked.
        """
        if not is_interactive():
            raise UsageError(
                "--break asks at a terminal: standard input and standard error are none",
                hints=["leave it out, or run the build at a terminal"],
            )
        return BreakPoints(list(map(BreakPoint.parse, places)), self.at_step)

    def held(self, display: Display) -> Display:
        """Return *display*, which makes way while somebody is asked."""
        self._display = PausableDisplay(display)
        return self._display

    async def at_step(self, stopped: StoppedStep) -> bool:
        """Let somebody look around, until they want the build to go on; return whether to the next step alone.

        Raises:
            Cancelled: they want to leave.
        """
        name = stopped.vertex.meta.name
        where = f"{'after' if stopped.has_run else 'before'} {name}"
        display = self._display
        assert display is not None
        async with self._turn:
            display.pause()
            try:
                line = stopped.vertex.meta.spans[0].first_line
                sys.stderr.write(f"stopped {where} (line {line})\n")
                while (pressed := await choice(_MENU, _QUIT)) == _SHELL:
                    place = (stopped.runner, stopped.vertex, stopped.op, stopped.inputs)
                    await look_around(*place, is_left=stopped.has_run, debug=self._debug)
            finally:
                display.resume()
        if pressed == _QUIT:
            raise Cancelled(f"left {where}")
        return pressed == _NEXT
