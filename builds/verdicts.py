"""Verdicts on sources, obtained while a definition is made: some policies have theirs from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from pybuild.model.errors import InternalError, unwrap
from pybuild.model.policy import PolicySource, Undecided

T = TypeVar("T")


class InThread(Protocol):
    """Does what may take long where it keeps nobody waiting."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


async def in_place(work: Callable[[], T]) -> T:
    """Do *work* here: nobody else waits in this process."""
    return work()


Decided = InThread
"""The same for work that policies may have a say in, with the verdicts that they lack obtained."""
Decide = Callable[[PolicySource], Coroutine[Any, Any, None]]
"""Obtains the verdict on a source, which its policies know from then on."""


async def nobody_decides(source: PolicySource) -> None:
    """Refuse: the policies of this build are rules, which know every verdict at once."""
    raise InternalError(f"nobody decides about {source.identifier}")


async def decided_of(work: Callable[[], Awaitable[T]], decide: Decide) -> T:
    """Return the result of *work*, begun again with each verdict on a source that it lacks."""
    while True:
        try:
            return await work()
        except Undecided as undecided:
            await _decide_all(undecided.sources, decide)


async def _decide_all(sources: Sequence[PolicySource], decide: Decide) -> None:
    """Obtain the verdicts at once: a policy may hold one back until it knows of another source."""
    try:
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(decide(source))
    except ExceptionGroup as error:
        raise unwrap(error) from error
