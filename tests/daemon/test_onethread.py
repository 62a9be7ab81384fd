"""Definitions of a client are read beside the event loop, one at a time."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from pybuild.buildkit.llb.queries import Answers, LocalQuery
from pybuild.buildkit.llb.read import NeedAnswers, read_with
from pybuild.buildkit.pb import ops as pb
from pybuild.daemon.builds.onethread import OneThread
from pybuild.daemon.builds.trees import ClientTrees
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.buildkit.llbs import BUSYBOX, answers, one

WAIT_S = 60


def test_a_definition_is_read_while_the_loop_turns() -> None:
    async def work() -> None:
        turning = threading.Event()
        asyncio.get_running_loop().call_later(0, turning.set)

        def rule(_: pb.SourceOp, platform: Platform) -> None:
            assert turning.wait(WAIT_S)  # nothing sets it while the loop stands

        async def resolve(need: NeedAnswers) -> Answers:
            return answers(need)

        await read_with(
            one(BUSYBOX),
            platform=LINUX_AMD64,
            resolve=resolve,
            in_thread=OneThread().run,
            rule=rule,
        )

    asyncio.run(work())


def test_who_is_cancelled_gets_no_second_thread() -> None:
    """Or a client that begins and ends builds takes all the threads there are."""
    at_once, most, may_end = 0, 0, threading.Event()

    def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        assert may_end.wait(WAIT_S)
        at_once -= 1

    async def clients() -> None:
        thread = OneThread()
        for _ in range(5):
            task = asyncio.create_task(thread.run(work))
            while not (task.done() or at_once):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
        last = asyncio.create_task(thread.run(work))
        for _ in range(100):
            await asyncio.sleep(0)
        assert at_once == 1 and not last.done()
        may_end.set()
        await last

    asyncio.run(clients())
    assert most == 1


def test_an_error_is_for_who_asked_and_the_next_one_runs() -> None:
    async def work() -> None:
        thread = OneThread()
        with pytest.raises(ValueError, match="invalid literal"):
            await thread.run(partial(int, "x"))
        assert await thread.run(partial(int, "7")) == 7

    asyncio.run(work())


def test_many_views_of_one_directory_are_named_without_a_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = 0
    equal = LocalQuery.__eq__

    def counted(self: LocalQuery, other: object) -> bool:
        nonlocal compared
        compared += 1
        return bool(equal(self, other))

    monkeypatch.setattr(LocalQuery, "__eq__", counted)
    trees = ClientTrees(None, None, None)  # type: ignore[arg-type]  # pyright: ignore
    queries = [LocalQuery(dir_name="d", exclude=(str(number),)) for number in range(1_000)]
    names = [trees.name_of(query) for query in queries]
    assert names == [f"d#{number}" for number in range(1, 1_001)]
    assert [trees.name_of(LocalQuery(dir_name="d", exclude=("7",)))] == ["d#8"]
    assert compared < 3_000
