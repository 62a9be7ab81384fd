"""``--on-fail ask``: whoever sits at the terminal says how a build goes on that has failed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.builds.leftovers import with_hints
from pybuild.commands.stepshell import look_around
from pybuild.engine.interruptible import run_interruptible
from pybuild.explain.text import step_text
from pybuild.model.errors import Cancelled, UsageError, unwrap
from pybuild.model.events import VertexLog
from pybuild.progress.ownterminal import choice, is_interactive
from pybuild.progress.render import report

if TYPE_CHECKING:
    from pybuild.builds.failedbuild import FailedBuild
    from pybuild.builds.request import OnFail

_SHELL, _LOG, _RETRY, _QUIT = b"slrq"
_MENU = {_SHELL: "[s]hell", _LOG: "[l]og and why it ran", _RETRY: "[r]etry", _QUIT: "[q]uit"}
_WITHOUT_STEP = {key: _MENU[key] for key in (_RETRY, _QUIT)}
_MOST_LINES = 500
NOBODY = "--on-fail ask: nobody can be asked, standard input and error are no terminal"


class AskOnFail:
    """Asks once a build has failed, and as often as it fails again.

    Args:
        before: has something done with the step first; its hints belong to the error.
        debug: errors are told with where they were raised.

    Attributes:
        retries: the build is wanted once more.
        status: the exit code of the error, once it was told.
    """

    def __init__(self, before: OnFail | None, *, debug: bool) -> None:
        self._before = before
        self._debug = debug
        self._pause: Callable[[], None] | None = None
        self.retries = False
        self.status: int | None = None

    def begin(self, pause: Callable[[], None]) -> None:
        """Begin with a build anew; *pause* ends its display."""
        self._pause, self.retries, self.status = pause, False, None

    async def at_step(self, failed: FailedBuild) -> Sequence[str]:
        """Tell the error of a build that failed at a step, and do what is asked for until it is left.

        Returns:
            The hints where nobody can be asked.
        """
        error = failed.error
        if not is_interactive():
            hints = await self._before(failed) if self._before is not None else ()
            return [*hints, NOBODY]
        if self._before is not None:
            error = await with_hints(error, self._before(failed))
        self._tell(error)
        while (pressed := await choice(_MENU, _QUIT)) not in (_RETRY, _QUIT):
            if pressed == _SHELL:
                op, inputs = failed.step.as_left()
                where = (failed.runner, failed.step.vertex, op, inputs)
                await look_around(*where, is_left=True, debug=self._debug)
            else:
                sys.stderr.write(_account_of(failed))
        self.retries = pressed == _RETRY
        return ()

    def hear(self, error: Exception) -> bool:
        """Take the end of a build that was not asked about, too: tell it, and ask whether to try again.

        Returns:
            Whether it is done with; somebody else has to tell it if not.
        """
        if isinstance(unwrap(error), Cancelled | UsageError):
            return False
        if self.status is None and is_interactive():
            self._tell(error)
            self.retries = run_interruptible(choice(_WITHOUT_STEP, _QUIT)) == _RETRY
        return self.status is not None

    def _tell(self, error: Exception) -> None:
        if self._pause is not None:
            self._pause()
        self.status = report(error, sys.stderr, debug=self._debug)


def _account_of(failed: FailedBuild) -> str:
    """Return the last lines that the step wrote, its key, and why it ran."""
    vertex = failed.step.vertex
    logged = b"".join(
        event.data
        for event in failed.events()
        if isinstance(event, VertexLog) and event.vertex == vertex.digest
    )
    lines = logged.decode("utf-8", "replace").splitlines()
    text = [f"| {line}" for line in lines[-_MOST_LINES:]]
    if len(lines) > _MOST_LINES:
        text.insert(0, f"({len(lines) - _MOST_LINES} lines before these: pybuild history logs)")
    if failed.report is not None:
        for step in failed.report.steps:
            if step.name == vertex.meta.name:
                text.append(step_text(step))
    return "\n".join(text) + "\n"
