"""Many awaitables at once, with one error; blocking work that is never left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")


async def gather(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of *work*; return the results in order.

    The first failure cancels the rest, waits for it, and is raised by itself: nobody upstairs
    wants an ExceptionGroup with one member.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        raise first from None
    return [task.result() for task in tasks]


async def finish_in(pool: Executor | None, work: Callable[[], T]) -> T:
    """Run *work* in *pool*, by default the loop's; a cancelled caller waits for its end first.

    A thread cannot be stopped. So what the work uses can be closed as soon as this has returned or
    raised.
    """
    future = asyncio.get_running_loop().run_in_executor(pool, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # somebody has looked at it
        raise cancelled
    return future.result()
