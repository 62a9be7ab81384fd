"""grpcio calls our server, and our channel calls grpcio's: both must mean the same."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import WAIT_S, echo, echo_all, serving

grpc: Any = pytest.importorskip("grpc")

OPTIONS = [
    ("grpc.max_send_message_length", 32 << 20),
    ("grpc.max_receive_message_length", 32 << 20),
]
BIG = os.urandom(10 << 20)


# Their client, our server.


async def _join(call: IncomingCall) -> None:
    parts: list[bytes] = []
    while (part := await call.receive()) is not None:
        parts.append(part)
    await call.send(b"".join(parts))


async def _count(call: IncomingCall) -> None:
    for number in range(int(await call.receive() or b"0")):
        await call.send(b"%d" % number)


async def _meta(request: bytes, call: IncomingCall) -> bytes:
    names = [value for _, value in call.metadata if isinstance(value, str)]
    call.trailers.add("seen", ",".join(sorted(names)))
    call.trailers.add("copy-bin", call.metadata.get_binary("raw-bin")[0])
    await call.send_headers(Metadata({"early": "yes"}))
    return request


async def _fail(call: IncomingCall) -> None:
    raise RpcError(Code.FAILED_PRECONDITION, "nicht möglich: 5 %", b"\x08\x09")


async def _long(call: IncomingCall) -> None:
    raise RpcError(Code.NOT_FOUND, "x" * 50_000, bytes(50_000))


class _Stuck:
    """A handler that never ends by itself."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, call: IncomingCall) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


def _serve(client: Callable[[Any], None], handlers: dict[str, Handler] | None = None) -> None:
    """Run *client* with a channel of grpcio's, in a thread."""

    def call(path: Path) -> None:
        with grpc.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
            client(channel)

    async def run() -> None:
        table: dict[str, Handler] = {
            "/t.T/Echo": unary(echo),
            "/t.T/All": echo_all,
            "/t.T/Join": _join,
            "/t.T/Count": _count,
            "/t.T/Meta": unary(_meta),
            "/t.T/Fail": _fail,
            "/t.T/Long": _long,
        }
        async with serving(table | (handlers or {})) as path, asyncio.timeout(2 * WAIT_S):
            await asyncio.to_thread(call, path)

    asyncio.run(run())


def test_their_client_makes_all_four_kinds_of_calls() -> None:
    def client(channel: Any) -> None:
        assert channel.unary_unary("/t.T/Echo")(b"one", timeout=WAIT_S) == b"one"
        counted = channel.unary_stream("/t.T/Count")(b"300", timeout=WAIT_S)
        assert list(counted) == [b"%d" % number for number in range(300)]
        parts = iter([b"a", b"", b"bc"])
        assert channel.stream_unary("/t.T/Join")(parts, timeout=WAIT_S) == b"abc"
        parts = iter([b"%d" % number for number in range(300)])
        echoed = channel.stream_stream("/t.T/All")(parts, timeout=WAIT_S)
        assert list(echoed) == [b"%d" % number for number in range(300)]

    _serve(client)


@pytest.mark.slow
def test_their_client_sends_and_gets_ten_megabytes() -> None:
    def client(channel: Any) -> None:
        assert channel.unary_unary("/t.T/Echo")(BIG, timeout=WAIT_S) == BIG
        assert list(channel.stream_stream("/t.T/All")(iter([BIG, b"x", BIG]))) == [BIG, b"x", BIG]

    _serve(client)


def test_their_client_reads_our_metadata_and_we_theirs() -> None:
    def client(channel: Any) -> None:
        answer, call = channel.unary_unary("/t.T/Meta").with_call(
            b"x", metadata=[("one", "1"), ("two", "2"), ("two", "3"), ("raw-bin", b"\0\xff")]
        )
        assert answer == b"x"
        assert ("early", "yes") in call.initial_metadata()
        assert ("seen", "1,2,3") in call.trailing_metadata()
        assert ("copy-bin", b"\0\xff") in call.trailing_metadata()

    _serve(client)


def test_their_client_reads_our_errors() -> None:
    def client(channel: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Fail")(b"")
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert caught.value.details() == "nicht möglich: 5 %"
        assert ("grpc-status-details-bin", b"\x08\x09") in caught.value.trailing_metadata()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Long")(b"")
        # Whole, these would be above the limit that it told us, and the call would be lost.
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert caught.value.details().startswith("xxxx")
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Missing")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Echo")(bytes(17 << 20))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.unary_unary("/t.T/Echo")(b"still there") == b"still there"

    _serve(client)


def test_their_client_compresses_with_gzip_and_is_refused_others() -> None:
    def client(channel: Any) -> None:
        echo_one = channel.unary_unary("/t.T/Echo")
        assert echo_one(bytes(100_000), compression=grpc.Compression.Gzip) == bytes(100_000)
        with pytest.raises(grpc.RpcError) as caught:
            echo_one(bytes(100_000), compression=grpc.Compression.Deflate)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    _serve(client)


def test_their_deadline_and_their_cancellation_stop_our_handler() -> None:
    late, gone = _Stuck(), _Stuck()

    def client(channel: Any) -> None:
        timeout = 0.05
        while not late.started.is_set():  # a busy machine may not come to it in time
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/t.T/Late")(b"", timeout=timeout)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            timeout *= 2
        assert late.cancelled.wait(WAIT_S)
        call = channel.unary_unary("/t.T/Gone").future(b"")
        assert gone.started.wait(WAIT_S)
        call.cancel()
        assert gone.cancelled.wait(WAIT_S)

    _serve(client, {"/t.T/Late": late, "/t.T/Gone": gone})


# Our client, their server.


def _their_stuck(entered: threading.Event, left: threading.Event) -> Callable[[bytes, Any], bytes]:
    def handle(request: bytes, context: Any) -> bytes:
        context.add_callback(left.set)
        entered.set()
        left.wait(WAIT_S)
        return b""

    return handle


def _their_meta(request: bytes, context: Any) -> bytes:
    sent = {(name, value) for name, value in context.invocation_metadata()}
    context.send_initial_metadata((("early", "yes"),))
    context.set_trailing_metadata(
        (("seen", str(("one", "1") in sent)), ("copy-bin", dict(sent)["raw-bin"]))
    )
    return request


def _their_fail(request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x09"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "nicht möglich: 5 %")
    raise AssertionError


def _their_ignore(requests: Iterator[bytes], context: Any) -> bytes:
    """Answer without reading what the client still sends."""
    return b"enough"


def _their_echo(request: bytes, context: Any) -> bytes:
    return request


def _their_all(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    return requests


def _their_count(request: bytes, context: Any) -> Iterator[bytes]:
    return (b"%d" % number for number in range(int(request)))


def _their_join(requests: Iterator[bytes], context: Any) -> bytes:
    return b"".join(requests)


def _their_gzip(request: bytes, context: Any) -> bytes:
    context.set_compression(grpc.Compression.Gzip)
    return request


@contextmanager
def _their_server(
    path: Path, entered: threading.Event, left: threading.Event
) -> Generator[None, None, None]:
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(_their_echo),
        "Gzip": grpc.unary_unary_rpc_method_handler(_their_gzip),
        "All": grpc.stream_stream_rpc_method_handler(_their_all),
        "Count": grpc.unary_stream_rpc_method_handler(_their_count),
        "Join": grpc.stream_unary_rpc_method_handler(_their_join),
        "Ignore": grpc.stream_unary_rpc_method_handler(_their_ignore),
        "Meta": grpc.unary_unary_rpc_method_handler(_their_meta),
        "Fail": grpc.unary_unary_rpc_method_handler(_their_fail),
        "Stuck": grpc.unary_unary_rpc_method_handler(_their_stuck(entered, left)),
    }
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=OPTIONS)
        generic = grpc.method_handlers_generic_handler("t.T", handlers)
        server.add_generic_rpc_handlers((generic,))
        server.add_insecure_port(f"unix:{path}")
        server.start()
        try:
            yield
        finally:
            left.set()
            server.stop(None).wait(WAIT_S)


def _call(path: Path, client: Callable[[Channel], Awaitable[None]]) -> None:
    entered, left = threading.Event(), threading.Event()

    async def run() -> None:
        async with asyncio.timeout(2 * WAIT_S):
            channel = await Channel.connect(f"unix://{path}")
            try:
                await client(channel)
            finally:
                await channel.close()

    with _their_server(path, entered, left):
        asyncio.run(run())


@pytest.mark.slow
def test_our_client_makes_all_four_kinds_of_calls(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        assert await channel.unary("/t.T/Echo", b"one", timeout=WAIT_S) == b"one"
        async with channel.stream("/t.T/Count") as call:
            await call.send(b"300")
            await call.half_close()
            counted: list[bytes] = []
            while (message := await call.receive()) is not None:
                counted.append(message)
        assert counted == [b"%d" % number for number in range(300)]
        async with channel.stream("/t.T/Join") as call:
            for part in (b"a", b"", b"bc"):
                await call.send(part)
            await call.half_close()
            assert await call.receive() == b"abc"
            assert await call.receive() is None
        async with channel.stream("/t.T/All") as call:
            for number in range(300):
                await call.send(b"%d" % number)
                assert await call.receive() == b"%d" % number
            await call.half_close()
            assert await call.receive() is None

    _call(tmp_path / "s", client)


@pytest.mark.slow
def test_our_client_sends_and_gets_ten_megabytes(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        assert await channel.unary("/t.T/Echo", BIG) == BIG
        assert await channel.unary("/t.T/Gzip", bytes(10 << 20)) == bytes(10 << 20)

    _call(tmp_path / "s", client)


def test_our_client_reads_their_metadata_and_errors(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        metadata = Metadata([("one", "1"), ("raw-bin", b"\0\xff")])
        async with channel.stream("/t.T/Meta", metadata=metadata) as call:
            await call.send(b"x")
            await call.half_close()
            assert (await call.headers()).get("early") == "yes"
            assert await call.receive() == b"x"
            assert await call.receive() is None
            assert call.trailers.get("seen") == "True"
            assert call.trailers.get_binary("copy-bin") == [b"\0\xff"]
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.T/Fail", b"")
        assert caught.value.code == Code.FAILED_PRECONDITION
        assert caught.value.message == "nicht möglich: 5 %"
        assert caught.value.details == b"\x08\x09"
        with pytest.raises(RpcError) as caught:
            await channel.unary("/t.T/Missing", b"")
        assert caught.value.code == Code.UNIMPLEMENTED

    _call(tmp_path / "s", client)


def test_our_client_hears_of_an_answer_that_comes_before_its_end(tmp_path: Path) -> None:
    async def client(channel: Channel) -> None:
        async with channel.stream("/t.T/Ignore") as call:
            await call.send(b"x")
            assert await call.receive() == b"enough"
            assert await call.receive() is None
            with pytest.raises(RpcError) as caught:
                await call.send(b"y")
            assert caught.value.code == Code.CANCELLED
            await call.half_close()
        assert await channel.unary("/t.T/Echo", b"on") == b"on"

    _call(tmp_path / "s", client)


def test_our_deadline_and_our_cancellation_stop_their_handler(tmp_path: Path) -> None:
    entered, left = threading.Event(), threading.Event()

    async def run() -> None:
        channel = await Channel.connect(f"unix://{tmp_path / 's'}")
        timeout = 0.05
        while not entered.is_set():  # a busy machine may not come to it in time
            with pytest.raises(RpcError) as caught:
                await channel.unary("/t.T/Stuck", b"", timeout=timeout)
            assert caught.value.code == Code.DEADLINE_EXCEEDED
            timeout *= 2
        assert await asyncio.to_thread(left.wait, WAIT_S)
        left.clear()
        entered.clear()
        task = asyncio.create_task(channel.unary("/t.T/Stuck", b""))
        assert await asyncio.to_thread(entered.wait, WAIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(left.wait, WAIT_S)
        await channel.close()

    with _their_server(tmp_path / "s", entered, left):
        asyncio.run(run())
