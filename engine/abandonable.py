"""Waiting for what may never come: standard input, a named pipe, a dead network file system."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def abandonable(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function* in a thread that a cancelled task leaves behind.

    `asyncio.to_thread` joins its threads when the loop ends, so a read that never returns would
    keep a cancelled build, and with it the terminal, for ever.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(error: BaseException | None, value: T | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)  # type: ignore[arg-type]

    def work() -> None:
        error: BaseException | None = None
        value: T | None = None
        try:
            value = function(*args, **kwargs)
        except BaseException as raised:  # noqa: BLE001 - it belongs to the waiting task
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, error, value)

    threading.Thread(target=work, name=f"pybuild-{function.__name__}", daemon=True).start()
    return await future
