"""Pieces of streams, and faults of the other end, as both ends of a session know them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from pybuild.buildkit.fsutil.packet import MalformedPacket
from pybuild.buildkit.pb.filesync import BytesMessage
from pybuild.buildkit.session.bytesmessage import CallBytes, unwrap, wrap
from pybuild.buildkit.session.failures import failed
from pybuild.buildkit.session.pieces import PIECE_BYTES, pieces
from pybuild.model.errors import Cancelled, EnvironmentFault, UserError
from pybuild.net.grpc.status import Code, RpcError
from pybuild.net.tasks import finish_in


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 1 << 21])
def test_pieces_are_the_protocols_messages(size: int) -> None:
    data = b"x" * size
    assert wrap(data) == BytesMessage(data=data).SerializeToString()
    assert wrap(memoryview(data)) == wrap(data)
    assert unwrap(wrap(data)) == data


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (b"\x0a\x00", b""),
        (b"\x0a\x01a\x0a\x02bc", b"bc"),
        (b"\x10\x05\x0a\x01a", b"a"),
        (b"\x0a\x01a\x10\x05", b"a"),
        (b"\x0a\x81\x80\x00a", b"a"),
    ],
)
def test_pieces_in_another_form_are_read_as_well(message: bytes, data: bytes) -> None:
    assert unwrap(message) == data


@pytest.mark.parametrize("message", [b"\x0a", b"\x0a\x05a", b"\x0a\xff", b"\xff"])
def test_what_is_no_piece_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedPacket, match="a piece of a stream that cannot be read"):
        unwrap(message)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (Code.UNAVAILABLE, Cancelled, "read x: the client has gone: why"),
        (Code.CANCELLED, Cancelled, "read x: the client has gone: why"),
        (Code.DEADLINE_EXCEEDED, EnvironmentFault, "read x: why"),
        (Code.RESOURCE_EXHAUSTED, EnvironmentFault, "read x: why"),
        (Code.INTERNAL, EnvironmentFault, "read x: why"),
        (Code.UNIMPLEMENTED, UserError, "read x: why"),
        (Code.NOT_FOUND, UserError, "read x: why"),
    ],
)
def test_a_clients_fault_is_told_from_the_machines(
    code: Code, kind: type[Exception], words: str
) -> None:
    found = failed("read x", RpcError(code, "why"))
    assert type(found) is kind and found.message == words


def test_a_file_comes_in_pieces(tmp_path: Path) -> None:
    async def read(size: int) -> list[int]:
        path = tmp_path / "f"
        path.write_bytes(bytes(size))
        return [len(piece) async for piece in pieces(str(path))]

    assert asyncio.run(read(0)) == []
    assert asyncio.run(read(PIECE_BYTES + 1)) == [PIECE_BYTES, 1]


def test_whoever_is_cancelled_waits_for_the_work_that_he_began() -> None:
    begun, go_on = Event(), Event()
    done: list[int] = []

    def work() -> int:
        begun.set()
        go_on.wait(60)
        done.append(1)
        return 7

    async def run() -> None:
        with ThreadPoolExecutor(1) as pool:
            task = asyncio.create_task(finish_in(pool, work))
            await asyncio.to_thread(begun.wait, 10)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
                assert not task.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert done == [1]
            assert await finish_in(pool, work) == 7
            with pytest.raises(ZeroDivisionError):
                await finish_in(pool, lambda: 1 // 0)

    asyncio.run(run())


class Received:
    """The messages of a call, in the batches that come."""

    def __init__(self, *batches: list[bytes]) -> None:
        self.batches = list(batches)
        self.sent: list[bytes] = []

    async def receive(self) -> bytes | None:
        raise AssertionError("all that has come is taken at once")

    async def receive_all(self) -> list[bytes]:
        return self.batches.pop(0) if self.batches else []

    async def send(self, message: bytes) -> None:
        self.sent.append(message)


def test_a_call_is_a_stream_of_bytes() -> None:
    async def work() -> None:
        call = Received([wrap(b"a"), wrap(b"b")], [wrap(b"")], [wrap(b"c")])
        stream = CallBytes(call)
        assert [await stream.read() for _ in range(3)] == [b"ab", b"c", b""]
        await stream.write(b"")
        await stream.write(b"d")
        assert call.sent == [wrap(b"d")]
        call.batches.append([wrap(b"e")])
        stream.close()
        assert await stream.read() == b""
        with pytest.raises(RpcError) as caught:
            await CallBytes(Received([b"\x08"])).read()
        assert caught.value.code is Code.INVALID_ARGUMENT

    asyncio.run(work())
