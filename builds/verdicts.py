"""Verdicts on sources, obtained while a definition is made: some policies have theirs from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from pybuild.model.errors import InternalError
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
Decide = Callable[[PolicySource], Awaitable[None]]
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
            await decide(undecided.source)
