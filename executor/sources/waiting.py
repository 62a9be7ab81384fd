"""Questions to others that several ask at once, and that are put but once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Once(Generic[Question, Answer]):
    """The answers of one build. A question that failed is put again, should anybody ask."""

    def __init__(self) -> None:
        self._tasks: dict[Question, asyncio.Task[Answer]] = {}

    async def ask(
        self, question: Question, put: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        """Return the answer, by *put* if nobody has asked; it goes on where one who asked gives up."""
        task = self._tasks.get(question)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._tasks[question] = asyncio.create_task(put())
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancel what is still under way, and return when all has ended; nothing is raised."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
