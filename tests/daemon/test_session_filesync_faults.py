"""Directories of clients that misbehave, end in the middle, or fill the disk."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import gomode, packet
from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.receiver import Receiver
from pybuild.cache.store import Store
from pybuild.client.filesync import METHOD, file_sync
from pybuild.daemon.session.filesync import LocalSync
from pybuild.model.errors import Cancelled, EnvironmentFault, UserError
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.filesyncrig import CONTEXT, arrives, make_source, rig
from tests.daemon.peers import open_store, serving
from tests.daemon.trees import describe


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source")


def _entry(path: bytes, size: int = 0) -> bytes:
    return packet.encode_stat(Stat(path=path, mode=0o644, size=size, mtime_ns=1))


def _sends(*messages: bytes, then: RpcError | None = None) -> dict[str, Handler]:
    async def handle(call: IncomingCall) -> None:
        for message in messages:
            await call.send(message)
        if then is not None:
            raise then
        while await call.receive() is not None:
            pass

    return {METHOD: handle}


@pytest.mark.parametrize(
    ("handlers", "words"),
    [
        (_sends(_entry(b"../../etc/passwd")), "not a clean relative path"),
        (_sends(_entry(b"b"), _entry(b"a")), "out of order"),
        (_sends(b"\xff\xff"), "cut short"),
        (_sends(packet.encode_error("no such directory")), "no such directory"),
        (_sends(then=RpcError(Code.NOT_FOUND, "no access allowed")), "no access allowed"),
        (_sends(_entry(b"a", 5), then=RpcError(Code.UNKNOWN, "sudden")), "sudden"),
        ({}, "does not offer"),
    ],
    ids=["climbs", "unsorted", "garbage", "gives-up", "refuses", "breaks-off", "offers-nothing"],
)
def test_a_client_that_misbehaves_fails_its_build_only(
    store: Store, source: Path, handlers: dict[str, Handler], words: str
) -> None:
    async def run() -> None:
        async with rig(store, handlers) as made:
            with pytest.raises(UserError, match=words):
                await made.fetch()
        await arrives(store, source)

    asyncio.run(run())


def test_a_client_that_ends_in_the_middle_leaves_a_usable_copy(store: Store, source: Path) -> None:
    stuck = asyncio.Event()

    async def handle(call: IncomingCall) -> None:
        await call.send(_entry(b"Dockerfile", 50))
        await call.send(packet.END_OF_LIST)
        assert await call.receive() == packet.encode_request(0)
        await call.send(packet.encode_data(0, b"half"))
        stuck.set()
        await asyncio.sleep(60)

    async def run() -> None:
        async with serving() as server:
            sync = LocalSync(store, keep_unnamed=True)
            async with server.client({METHOD: handle}) as session:

                async def build() -> None:
                    async with sync.fetch(session, CONTEXT):
                        raise AssertionError

                building = asyncio.create_task(build())
                await stuck.wait()
            with pytest.raises(Cancelled):
                await asyncio.wait_for(building, 60)
            sync.close()
        await arrives(store, source)
        assert len(os.listdir(store.contexts_dir)) == 1

    asyncio.run(run())


def test_a_directory_that_fills_the_disk_does_not_stay(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Receiver.feed

    def fills(receiver: Receiver, messages: list[bytes]) -> list[bytes]:
        answers = feed(receiver, messages)
        if receiver.received > 1 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return answers

    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)}), "named") as made:
            monkeypatch.setattr(Receiver, "feed", fills)
            for _ in range(2):
                with pytest.raises(EnvironmentFault, match="context of the client: no space left"):
                    await made.fetch()
                assert os.listdir(store.contexts_dir) == []
            monkeypatch.undo()
            async with made.sync.fetch(made.session, CONTEXT) as received:
                assert describe(received.path) == describe(source)

    asyncio.run(run())


def test_a_cancelled_build_lets_its_copy_go(store: Store, source: Path) -> None:
    async def run() -> None:
        async with rig(store, file_sync({"context": str(source)})) as made:
            for delay in (0.0, 0.001, 0.005, 0.02):
                building = asyncio.create_task(made.fetch())
                await asyncio.sleep(delay)
                building.cancel()
                await asyncio.gather(building, return_exceptions=True)
            async with made.sync.fetch(made.session, CONTEXT) as received:
                assert describe(received.path) == describe(source)
                assert len(os.listdir(store.contexts_dir)) == 1

    asyncio.run(run())


def test_unreadable_files_are_named(store: Store) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.send(_entry(b"secret", 5))
        await call.send(packet.END_OF_LIST)
        while (message := await call.receive()) is not None:
            kind = packet.decode(message).type
            await call.send(packet.encode_data(0, b"") if kind == packet.REQ else packet.FIN_PACKET)

    async def run() -> None:
        async with rig(store, {METHOD: handle}) as made:
            assert (await made.fetch()).short == ("'secret'",)
            assert (await made.fetch()).short == ("'secret'",)

    asyncio.run(run())


def test_modes_that_shut_us_out_do_not_stay_in_the_way(store: Store) -> None:
    async def handle(call: IncomingCall) -> None:
        shut = Stat(path=b"d", mode=gomode.DIRECTORY, mtime_ns=1)
        await call.send(packet.encode_stat(shut))
        await call.send(_entry(b"d/f", 0))
        await call.send(packet.END_OF_LIST)
        while (message := await call.receive()) is not None:
            kind = packet.decode(message).type
            await call.send(packet.encode_data(1, b"") if kind == packet.REQ else packet.FIN_PACKET)

    async def run() -> None:
        async with rig(store, {METHOD: handle}) as made:
            await made.fetch()
            received = await made.fetch()
            assert received.entries == 2
            os.chmod(os.path.join(received.path, "d"), 0o700)

    asyncio.run(run())
