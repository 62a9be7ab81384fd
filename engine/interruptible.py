"""The signals that end a command: what is half made by then is taken away, and the status tells which it was.

Lean: every command comes here.
"""

from __future__ import annotations

import os

from pybuild.model.lightlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Coroutine, Generator
    from types import FrameType
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")
else:
    import _signal as signal  # the C part; signal.py imports enum

_LEAST_FILES, _USUAL_FILES = 64, 1024
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3
"""So many of them end the process whatever it is doing; the second changes nothing, as with docker."""

_FORCED = b"\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"


class Ended(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def ended_by_signals() -> Generator[None]:
    """Have the first signal that ends others raise `Ended`; those that were ignored, as by nohup, stay so.

    Nothing is done outside of the main thread, where Python allows no handlers.
    """
    received = 0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received == 1:
            raise Ended(number)
        if received == _PATIENCE:
            _leave_now(number)

    with _handled_by(end):
        yield


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Generator[None]:
    before = {number: signal.getsignal(number) for number in _ENDING}
    before = {n: now for n, now in before.items() if now not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, handler)
    except ValueError:
        before.clear()
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def ignore_signals() -> None:
    """Have no signal change the end of a process that only has its error to tell: a second Ctrl-C gave a traceback."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def before_signals() -> Generator[None]:
    """Let a block end before a signal ends the command: the first is raised behind it, the third ends us.

    For what is over in a moment, and is not to be left half done.

    Raises:
        Cancelled: one came.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == _PATIENCE:
            _leave_now(number)

    with _handled_by(note):
        yield
    if received:
        from pybuild.model.errors import Cancelled

        raise Cancelled("context canceled").copy_with(exit_code=128 + received[0])


def _leave_now(number: int) -> NoReturn:
    """End the process. Steps end with it, and a store opens clean after that."""
    os.write(2, _FORCED)
    os._exit(128 + number)


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run *work*: Ctrl-C, SIGTERM or the end of the terminal cancels it, the third of them ends us.

    The second changes nothing, as with docker: what is being undone is not to be cut short by
    somebody who presses a key once more. Signals that were ignored, as by nohup, stay so.

    Raises:
        Cancelled: it was ended so.
    """
    import uvloop

    before = {number: signal.getsignal(number) for number in _ENDING}
    try:
        return uvloop.run(_interrupted(work))
    finally:
        for number, handler in before.items():  # the loop leaves the system's own
            if handler is not None:  # not one that Python knows
                signal.signal(number, handler)


async def _interrupted(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    task = asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        elif len(received) == _PATIENCE:
            _leave_now(number)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
    try:
        return await work
    except asyncio.CancelledError:
        from pybuild.model.errors import Cancelled, ExitCode

        status = 128 + received[0] if received else ExitCode.CANCELLED
        raise Cancelled("context canceled").copy_with(exit_code=status) from None


def raise_file_limit() -> None:
    """Have as many open files as an event loop and a few helpers need, so that it is said at once if not."""
    if not 0 <= os.sysconf("SC_OPEN_MAX") < _LEAST_FILES:
        return
    import resource

    from pybuild.model.errors import EnvironmentFault

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _LEAST_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _LEAST_FILES:
        raise EnvironmentFault(
            f"at most {hard} files may be open: {_LEAST_FILES} are the least that it takes",
            hints=[f"raise the limit on open files (ulimit -n {_USUAL_FILES})"],
        )
    most = _USUAL_FILES if hard == resource.RLIM_INFINITY else min(hard, _USUAL_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
