"""Bytes that work writes to a descriptor, sent on as pieces."""

from __future__ import annotations

import asyncio
import os

import pytest

from pybuild.exporter.pipe import Piped
from pybuild.model.errors import UserError
from tests.descriptors import none_left_open


def test_all_that_is_written_comes_out() -> None:
    data = os.urandom(200_000)

    async def write(fd: int) -> None:
        def run() -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

        await asyncio.to_thread(run)

    async def work() -> bytes:
        with none_left_open():
            async with Piped(write) as pieces:
                read = b"".join([piece async for piece in pieces])
        return read

    assert asyncio.run(work()) == data


def test_the_error_of_the_work_is_told_after_the_last_piece() -> None:
    async def write(fd: int) -> None:
        os.write(fd, b"half")
        raise UserError("no room")

    async def work() -> list[bytes]:
        read: list[bytes] = []
        with pytest.raises(UserError, match="no room"):
            async with Piped(write) as pieces:
                async for piece in pieces:
                    read.append(piece)
        return read

    assert asyncio.run(work()) == [b"half"]


def test_who_leaves_early_waits_for_the_work_and_tells_its_own_error() -> None:
    ended: list[bool] = []

    async def write(fd: int) -> None:
        try:
            await asyncio.sleep(0)
            os.write(fd, b"x")
        finally:
            ended.append(True)

    async def work() -> None:
        with none_left_open(), pytest.raises(KeyError):
            async with Piped(write):
                raise KeyError
        assert ended == [True]

    asyncio.run(work())


def test_an_error_that_nobody_read_for_is_told_at_the_end() -> None:
    async def write(fd: int) -> None:
        raise UserError("no")

    async def work() -> None:
        async with Piped(write):
            pass

    with pytest.raises(UserError, match="^no$"):
        asyncio.run(work())


def test_work_whose_bytes_nobody_takes_may_fail() -> None:
    async def write(fd: int) -> None:
        await asyncio.to_thread(_write_all, fd, bytes(8 << 20))

    async def work() -> None:
        piped = Piped(write)
        with none_left_open():
            async with piped:
                piped.refuse()

    asyncio.run(work())


def _write_all(fd: int, data: bytes) -> None:
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
