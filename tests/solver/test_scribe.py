"""Writing results: what is gathered, and who need not wait for more of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pybuild.model.digest import Digest
from pybuild.solver import scribe
from pybuild.solver.scribe import Scribe

A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture(autouse=True)
def endless_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written because of the time that went by."""
    monkeypatch.setattr(scribe, "GATHER_S", 3600.0)


def go(work: Callable[[Scribe], Coroutine[Any, Any, None]]) -> None:
    def fail(error: Exception) -> None:
        raise AssertionError from error

    async def run() -> None:
        writer = Scribe(fail)
        await asyncio.wait_for(work(writer), 60)
        await writer.all_written()

    asyncio.run(run())


def test_results_of_one_time_are_written_in_one_go_and_in_order() -> None:
    written: list[tuple[str, int]] = []

    def write(name: str) -> None:
        written.append((name, threading.get_ident()))

    async def work(writer: Scribe) -> None:
        writer.put(A, lambda: write("a"))
        writer.put(B, lambda: write("b"))
        await asyncio.sleep(0)
        assert not written
        await writer.written(B)
        assert [name for name, _ in written] == ["a", "b"]
        assert threading.get_ident() not in {thread for _, thread in written}

    go(work)


def test_who_asks_for_another_key_waits_for_nothing() -> None:
    async def work(writer: Scribe) -> None:
        written: list[str] = []
        writer.put(A, lambda: written.append("a"))
        await writer.written(B)
        assert not written

    go(work)


def test_who_asks_for_a_key_waits_for_all_of_its_own_writes_and_no_longer() -> None:
    """Blobs that others put while its batch is written are none of its business."""

    async def work(writer: Scribe) -> None:
        begun, may_end, rest = threading.Event(), threading.Event(), threading.Event()
        done: list[str] = []

        def first() -> None:
            begun.set()
            may_end.wait(60)
            done.append("a")

        def other() -> None:
            rest.wait(60)

        writer.put(A, first)
        writer.put(A, lambda: done.append("again"))
        writer.hurry()
        await asyncio.to_thread(begun.wait, 20)
        writer.put(B, other)
        waiting = asyncio.create_task(writer.written(A))
        await asyncio.sleep(0)
        assert not waiting.done()
        may_end.set()
        try:
            await asyncio.wait_for(waiting, 60)
        finally:
            rest.set()
        assert done == ["a", "again"]

    go(work)


def test_a_call_comes_after_what_was_put_before_it_and_does_not_hurry_it() -> None:
    async def work(writer: Scribe) -> None:
        order: list[str] = []
        writer.put(A, lambda: order.append("write"))
        writer.after(lambda: order.append("call"))
        await asyncio.sleep(0)
        assert not order
        writer.hurry()
        await writer.written(A)
        assert order == ["write", "call"]
        writer.after(lambda: order.append("at once"))
        assert order[-1] == "at once"

    go(work)


def test_hurry_also_counts_for_what_came_while_something_is_written() -> None:
    async def work(writer: Scribe) -> None:
        goes_on, may_end = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def slow() -> None:
            loop.call_soon_threadsafe(goes_on.set)
            may_end.wait(60)

        writer.put(A, slow)
        writer.hurry()
        await goes_on.wait()
        writer.put(B, lambda: None)
        writer.after(lambda: done.set_result(None))
        writer.hurry()  # before that batch is begun
        may_end.set()
        await done

    go(work)


def test_hurry_before_there_is_anything_does_not_count_for_later() -> None:
    async def work(writer: Scribe) -> None:
        written: list[str] = []
        writer.hurry()
        writer.put(A, lambda: written.append("a"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not written

    go(work)


@pytest.mark.parametrize("is_begun", [False, True])
def test_what_was_put_is_written_and_told_in_this_order_though_the_loop_ends(
    is_begun: bool,
) -> None:
    """A loop that closes cancels every task that is left."""
    order: list[str] = []
    begun, may_end = threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        may_end.wait(60)
        order.append("write")

    async def work(writer: Scribe) -> None:
        writer.put(A, write)
        writer.after(lambda: order.append("call"))
        await asyncio.sleep(0)
        if is_begun:
            writer.hurry()
            await asyncio.to_thread(begun.wait, 20)
        assert writer.task is not None
        writer.task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        await writer.all_written()
        assert order == ["write", "call"]

    go(work)
