"""Unpacking while a blob comes: what counts, and what is done again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pybuild.executor.streamedlayer import StreamedLayer
from pybuild.model.errors import EnvironmentFault
from tests.descriptors import none_left_open

Unpack = Callable[[list[int]], Awaitable[dict[str, Any]]]


def attempt(tmp_path: Path, unpack: Unpack, senders: int = 1, *, stops: bool = False) -> Any:
    """Have *senders* send a blob one after the other; return the outcome."""
    path = tmp_path / "blob"
    path.write_bytes(b"x")

    async def body() -> Any:
        with none_left_open():
            streamed = StreamedLayer(unpack)
            for _ in range(senders):
                streamed.begun(os.open(path, os.O_RDONLY))
                await asyncio.sleep(0)
                streamed.grown()
                streamed.ended()
            outcome = "stopped" if stops else await streamed.outcome()
            await streamed.stop()
            await asyncio.sleep(0)
        return outcome

    return asyncio.run(body())


async def reads(fds: list[int]) -> dict[str, Any]:
    blob, told = fds
    heard = await asyncio.to_thread(os.read, told, 10)
    return {"heard": heard, "data": os.read(blob, 10)}


async def refuses(fds: list[int]) -> dict[str, Any]:
    raise EnvironmentFault("damaged gzip stream")


async def waits(fds: list[int]) -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


def test_the_worker_reads_what_is_written_and_is_told(tmp_path: Path) -> None:
    assert attempt(tmp_path, reads) == {"heard": b"\0", "data": b"x"}


def test_what_failed_ahead_is_done_again_from_the_blob(tmp_path: Path) -> None:
    assert attempt(tmp_path, refuses) is None


def test_what_was_sent_twice_is_done_again_from_the_blob(tmp_path: Path) -> None:
    assert attempt(tmp_path, reads, senders=2) is None


def test_a_blob_that_came_some_other_way_was_not_unpacked(tmp_path: Path) -> None:
    assert attempt(tmp_path, reads, senders=0) is None


def test_stopping_ends_the_worker(tmp_path: Path) -> None:
    assert attempt(tmp_path, waits, stops=True) == "stopped"
