"""Calls from our client to our server over a Unix socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import ECHO, channel


def test_unary_call_answers_with_one_message() -> None:
    async def run() -> None:
        async with channel(ECHO) as client:
            assert await client.unary("/test.Echo/One", b"hello") == b"hello"
            assert await client.unary("/test.Echo/One", b"") == b""

    asyncio.run(run())


def test_messages_go_both_ways_on_one_stream() -> None:
    async def run() -> None:
        async with channel(ECHO) as client, client.stream("/test.Echo/All") as call:
            for size in (0, 1, 16_384, 40_000, 3 << 20):
                message = os.urandom(size)
                await call.send(message)
                assert await call.receive() == message
            await call.half_close()
            assert await call.receive() is None
            assert call.status is None

    asyncio.run(run())


def test_several_tasks_may_send_on_one_call() -> None:
    async def count(call: IncomingCall) -> None:
        size = 0
        while (message := await call.receive()) is not None:
            size += len(message)
        await call.send(b"%d" % size)

    async def run() -> None:
        async with channel({"/t.T/Count": count}) as client, client.stream("/t.T/Count") as call:
            await asyncio.gather(*(call.send(bytes(3 << 20)) for _ in range(5)))
            await call.half_close()
            assert await call.receive() == b"%d" % (15 << 20)

    asyncio.run(run())


@pytest.mark.slow
def test_many_messages_go_and_come_at_once() -> None:
    """In order and whole, and the windows are given back: three times as much as fits in them."""
    sizes = (0, 1, 5, 16_379, 16_384, 0, 100_000, 3 << 20)
    sent = [bytes([number % 251]) * size for number, size in enumerate(sizes * 15)]

    async def collect(call: IncomingCall) -> None:
        taken: list[bytes] = []
        while messages := await call.receive_all():
            taken += messages
        assert await call.receive_all() == []
        assert taken == sent
        await call.send(b"%d" % len(taken))

    async def run() -> None:
        async with channel({"/t.T/All": collect}) as client, client.stream("/t.T/All") as call:
            for at in range(0, len(sent), 40):
                await call.send(*sent[at : at + 40])
            await call.half_close()
            assert await call.receive_all() == [b"%d" % len(sent)]
            assert await call.receive_all() == []

    asyncio.run(run())


def test_unknown_methods_are_unimplemented() -> None:
    async def run() -> None:
        async with channel(ECHO) as client:
            for method, text in {
                "/test.Echo/Two": "unknown method Two for service test.Echo",
                "/test.Other/One": "unknown service test.Other",
            }.items():
                with pytest.raises(RpcError) as caught:
                    await client.unary(method, b"")
                assert (caught.value.code, caught.value.message) == (Code.UNIMPLEMENTED, text)

    asyncio.run(run())


def test_errors_keep_code_message_and_details() -> None:
    async def fail(call: IncomingCall) -> None:
        raise RpcError(Code.NOT_FOUND, "näh: 100 %\n", b"\x00\xff\x01")

    async def run() -> None:
        async with channel({"/test.Fail/Now": fail}) as client:
            with pytest.raises(RpcError) as caught:
                await client.unary("/test.Fail/Now", b"")
            error = caught.value
            assert (error.code, error.message) == (Code.NOT_FOUND, "näh: 100 %\n")
            assert error.details == b"\x00\xff\x01"

    asyncio.run(run())


def test_details_larger_than_a_frame_arrive() -> None:
    """They carry the source of a Dockerfile [remote-api 1.1]."""

    async def fail(call: IncomingCall) -> None:
        raise RpcError(Code.UNKNOWN, "x" * 20_000, bytes(300_000))

    async def run() -> None:
        async with channel({"/t.T/Fail": fail}) as client:
            with pytest.raises(RpcError) as caught:
                await client.unary("/t.T/Fail", b"")
            assert caught.value.message == "x" * 20_000
            assert caught.value.details == bytes(300_000)

    asyncio.run(run())


def test_headers_are_sent_once_and_messages_received_by_one_task() -> None:
    async def twice(call: IncomingCall) -> None:
        await call.send_headers(Metadata({"a": "b"}))
        with pytest.raises(RuntimeError, match="the headers are sent"):
            await call.send_headers()
        waiting = asyncio.create_task(call.receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks receive"):
            await call.receive()
        assert await waiting == b"x"

    async def run() -> None:
        async with channel({"/t.T/Twice": twice}) as client, client.stream("/t.T/Twice") as call:
            assert (await call.headers()).get("a") == "b"
            await call.send(b"x")
            assert await call.receive() is None

    asyncio.run(run())


def test_tasks_that_outlive_their_call_hear_of_its_end() -> None:
    ends: list[RpcError] = []

    async def read(receive: Callable[[], Awaitable[bytes | None]]) -> None:
        try:
            await receive()
        except RpcError as error:
            ends.append(error)

    async def run() -> None:
        readers: list[asyncio.Task[None]] = []

        async def leave(call: IncomingCall) -> None:
            readers.append(asyncio.create_task(read(call.receive)))
            await call.send(b"x")

        async with channel({**ECHO, "/t.T/Leave": leave}) as client:
            async with client.stream("/t.T/Leave") as call:
                assert await call.receive() == b"x"
                assert await call.receive() is None
            async with client.stream("/test.Echo/All") as call:
                readers.append(asyncio.create_task(read(call.receive)))
                await asyncio.sleep(0)
            await asyncio.gather(*readers)
        assert [end.code for end in ends] == [Code.CANCELLED] * 2

    asyncio.run(run())
