"""An event loop of a command's own, whose work ends when a person or the system says so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from pybuild.model.errors import Cancelled, ExitCode

T = TypeVar("T")

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3
_FORCED = b"\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run *work*: Ctrl-C, SIGTERM or the end of the terminal cancels it, the third of them ends us.

    The second changes nothing, as with docker: what is being undone is not to be cut short by
    somebody who presses a key once more. Signals that were ignored, as by nohup, stay so.

    Raises:
        Cancelled: it was ended so.
    """
    return uvloop.run(_interrupted(work))


async def _interrupted(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    received = 0

    def end() -> None:
        nonlocal received
        received += 1
        if received == 1:
            task.cancel()
        elif received == _PATIENCE:
            # Steps end with us, and a store opens clean after that.
            os.write(2, _FORCED)
            os._exit(ExitCode.CANCELLED)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        return await work
    except asyncio.CancelledError:
        raise Cancelled("context canceled") from None
