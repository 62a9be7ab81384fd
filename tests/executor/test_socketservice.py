"""The process that answers a step's socketcalls is started by the first call, not by the step's end."""

from __future__ import annotations

import asyncio
import os

import pytest

from pybuild.executor.workers.socketservice import SocketService


@pytest.mark.parametrize(("said", "started"), [(b"", 0), (b"call", 1)])
def test_a_call_starts_it_and_the_end_of_a_step_does_not(said: bytes, started: int) -> None:
    async def work() -> int:
        listener, other = os.pipe()  # readable when the other end goes, as a listener is
        listeners: list[int] = []

        async def answer(fd: int) -> None:
            listeners.append(fd)

        service = SocketService(listener, answer)
        os.write(other, said)
        os.close(other)
        while _is_open(listener):
            await asyncio.sleep(0)
        await service.close()
        return len(listeners)

    assert asyncio.run(asyncio.wait_for(work(), 60)) == started


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
