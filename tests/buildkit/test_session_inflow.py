"""Messages of a call are read ahead, within bounds, and its end comes after all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pybuild.buildkit.session.inflow import Inflow
from pybuild.net.grpc.status import Code, RpcError
from tests import watchdog


class Call:
    """Gives out batches of messages, then an end or an error; *read* counts them."""

    def __init__(self, *batches: list[bytes] | Exception) -> None:
        self._batches = list(batches)
        self.read = 0

    async def receive(self) -> bytes | None:
        raise NotImplementedError

    async def receive_all(self) -> list[bytes]:
        await asyncio.sleep(0)
        self.read += 1
        batch = self._batches.pop(0) if self._batches else []
        if isinstance(batch, Exception):
            raise batch
        return batch

    async def send(self, message: bytes, /) -> None:
        raise NotImplementedError


def run(call: Call, work: Callable[[Inflow], Awaitable[None]]) -> None:
    async def body() -> None:
        async with Inflow(call) as inflow:
            await work(inflow)

    with watchdog.ends():
        asyncio.run(body())


async def settled() -> None:
    """Let all that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_all_that_is_here_is_taken_at_once() -> None:
    async def work(inflow: Inflow) -> None:
        assert await inflow.take() == [b"1"]
        await settled()
        assert await inflow.take() == [b"2", b"3", b"4"]
        assert await inflow.take() == []
        assert await inflow.take() == []

    run(Call([b"1"], [b"2", b"3"], [b"4"]), work)


def test_an_error_comes_after_what_came_before_it() -> None:
    async def work(inflow: Inflow) -> None:
        await settled()
        assert await inflow.take() == [b"1"]
        with pytest.raises(RpcError, match="gone"):
            await inflow.take()

    run(Call([b"1"], RpcError(Code.UNAVAILABLE, "gone")), work)


@pytest.mark.parametrize("batch", [[b"x" * (9 << 20)], [b""] * 50_000], ids=["large", "many"])
def test_nothing_more_is_read_while_much_waits(batch: list[bytes]) -> None:
    call = Call(batch, [b"more"])

    async def work(inflow: Inflow) -> None:
        await settled()
        assert call.read == 1
        assert await inflow.take() == batch
        assert await inflow.take() == [b"more"]
        assert await inflow.take() == []

    run(call, work)


def test_reading_ends_with_the_block() -> None:
    class Silent(Call):
        async def receive_all(self) -> list[bytes]:
            self.read += 1
            await asyncio.Event().wait()
            return []

    call = Silent()

    async def work(inflow: Inflow) -> None:
        del inflow
        await settled()

    run(call, work)
    assert call.read == 1
