"""The one function that Dask ever calls: a claim, handed on to the `pybuild worker` beside the agent.

A claim is text (JSON) both ways, and lasts as long as its step: so Dask's books show the slots that all
coordinators have taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Answer = Callable[[str], Awaitable[str]]

_answers: list[Answer] = []


def answer_with(answer: Answer) -> None:
    """Have *answer* called for each claim of this process from now on."""
    _answers[:] = [answer]


async def claim(text: str) -> str:
    """Return the end of the claim *text*; in a process that is no agent there is nobody to hand it to."""
    if not _answers:
        raise RuntimeError("claims are answered by agents")
    return await _answers[0](text)
