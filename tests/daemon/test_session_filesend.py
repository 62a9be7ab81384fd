"""Results go to the client: archives as bytes, trees entry by entry, through a thread or worker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from pybuild.buildkit.fsutil import packet
from pybuild.client.filesend import METHOD, ArchiveSink, ToDirectory, ToStream, file_send
from pybuild.daemon.session.filesend import TreeWork, send_stream, send_tree
from pybuild.executor.files.values import ExportTree
from pybuild.executor.workers.job import job
from pybuild.executor.workers.workers import Workers
from pybuild.exporter.treesend import Root, send_job, send_trees
from pybuild.model.errors import Cancelled, UserError
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.peers import connected, serving
from tests.daemon.trees import describe


class Memory:
    """An output that remembers."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = ""

    def write(self, data: bytes, /) -> None:
        self.data += data

    def close(self) -> None:
        self.ended = "close"

    def abort(self) -> None:
        self.ended = "abort"


async def _pieces(*pieces: bytes) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


def test_an_archive_arrives_with_its_facts() -> None:
    output = Memory()
    told: dict[str, str] = {}

    def open_output(facts: Mapping[str, str]) -> ArchiveSink:
        told.update(facts)
        return output

    data = os.urandom(10 << 20)

    async def run() -> None:
        seen: list[int] = []
        async with connected(file_send({1: ToStream(open_output)})) as session:
            facts = {"containerimage.digest": "sha256:1", "odd": "new\nline"}
            sent = await send_stream(
                session, _pieces(b"head", data), exporter=1, facts=facts, on_progress=seen.append
            )
            assert sent
        assert (output.data, output.ended) == (b"head" + data, "close")
        assert told == {"containerimage.digest": "sha256:1"}
        assert seen[-1] == len(data) + 4

    asyncio.run(run())


def test_a_client_that_has_it_already_is_left_alone() -> None:
    async def run() -> None:
        async with connected(file_send({0: ToStream(lambda facts: None)})) as session:
            assert not await send_stream(session, _pieces(*[b"x" * (1 << 20)] * 20))

    asyncio.run(run())


def test_a_client_that_cannot_take_it_says_why() -> None:
    class Full(Memory):
        def write(self, data: bytes, /) -> None:
            raise OSError(28, "No space left on device")

    output = Full()

    async def run() -> None:
        async with connected(file_send({0: ToStream(lambda facts: output)})) as session:
            with pytest.raises(UserError, match="no space left"):
                await send_stream(session, _pieces(*[b"x" * (1 << 20)] * 20))
            with pytest.raises(UserError, match="nothing is wanted of exporter '3'"):
                await send_stream(session, _pieces(b"x"), exporter=3)
        assert output.ended == "abort"

    asyncio.run(run())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tool").write_bytes(os.urandom(700_000))
    (root / "bin" / "tool").chmod(0o755)
    (root / "bin" / "alias").hardlink_to(root / "bin" / "tool")
    (root / "empty").mkdir(mode=0o750)
    (root / "link").symlink_to("bin/tool")
    (root / "zero").write_bytes(b"")
    return root


def _in_thread(
    *roots: tuple[str, str], files: Mapping[str, bytes] | None = None, epoch: int = 0
) -> TreeWork:
    async def work(channel: socket.socket) -> object:
        time = epoch or None
        given = [Root(prefix, path, epoch=time, name=path[-5:]) for prefix, path in roots]
        return await asyncio.to_thread(send_trees, channel, given, files, epoch=time)

    return work


def test_a_tree_arrives_in_a_directory_that_keeps_what_else_it_holds(
    tree: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_bytes(b"mine")

    async def run() -> None:
        async with connected(file_send({0: ToDirectory(str(target))})) as session:
            for _ in range(2):
                await send_tree(session, _in_thread(("", str(tree))))
        expected = describe(tree)
        found = describe(target)
        assert found.pop("mine")[2] == b"mine"
        assert found == expected

    asyncio.run(run())


def test_a_tree_can_replace_what_a_directory_holds(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_bytes(b"old")

    async def run() -> None:
        async with connected(file_send({0: ToDirectory(str(target), replaces=True)})) as session:
            await send_tree(session, _in_thread(("", str(tree))), replaces=True)
        assert describe(target) == describe(tree)

    asyncio.run(run())


def test_several_trees_and_files_become_one(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b").write_bytes(b"b")
    target = tmp_path / "out"
    files = {"linux_amd64/provenance.json": b"{}", "a-file": b"a"}

    async def run() -> None:
        roots = (("linux_amd64", str(tree)), ("linux_arm64", str(other)))
        async with connected(file_send({0: ToDirectory(str(target))})) as session:
            await send_tree(session, _in_thread(*roots, files=files, epoch=1000))

    asyncio.run(run())
    found = describe(target)
    assert found["linux_amd64/provenance.json"][2] == b"{}"
    assert found["linux_amd64/bin/tool"][3] == found["linux_amd64/bin/alias"][3]
    assert found["linux_arm64/b"][2] == b"b"
    assert found["a-file"][2] == b"a"
    assert {entry[1] for entry in found.values()} == {1000 * 10**9}


def test_trees_at_one_place_merge(tree: Path, tmp_path: Path) -> None:
    """OUT-5: only directories may be in two of them."""
    other = tmp_path / "other"
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "more").write_bytes(b"more")
    target = tmp_path / "out"

    async def run() -> None:
        async with connected(file_send({0: ToDirectory(str(target))})) as session:
            roots = (("", str(tree)), ("", str(other)))
            await send_tree(session, _in_thread(*roots))
            found = describe(target)
            assert found["bin/more"][2] == b"more"
            assert found["bin/tool"][2] == (tree / "bin" / "tool").read_bytes()
            (other / "zero").write_bytes(b"not empty")
            message = "cannot overwrite zero from /tree with other when split option is disabled"
            with pytest.raises(UserError, match=message):
                await send_tree(session, _in_thread(*roots))

    asyncio.run(run())


def test_a_directory_in_the_way_is_not_removed(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "zero").mkdir(parents=True)
    (target / "zero" / "precious").write_bytes(b"")

    async def run() -> None:
        async with connected(file_send({0: ToDirectory(str(target))})) as session:
            with pytest.raises(UserError, match="in the way"):
                await send_tree(session, _in_thread(("", str(tree))))
        assert (target / "zero" / "precious").exists()

    asyncio.run(run())


@pytest.mark.parametrize("broken", ["refuses", "leaves", "asks-for-nonsense"])
def test_a_client_that_breaks_off_ends_the_work(tree: Path, broken: str) -> None:
    async def handle(call: IncomingCall) -> None:
        await call.receive()
        if broken == "refuses":
            raise RpcError(Code.PERMISSION_DENIED, "not here")
        if broken == "asks-for-nonsense":
            await call.send(packet.encode_request(99))
            await asyncio.sleep(30)
        await asyncio.sleep(30)

    handlers: dict[str, Handler] = {METHOD: handle}

    async def run() -> None:
        async with serving() as server:
            async with server.client(handlers) as session:
                sending = asyncio.create_task(send_tree(session, _in_thread(("", str(tree)))))
                await asyncio.wait((sending,), timeout=0.2)
            with pytest.raises((UserError, Cancelled)):
                await asyncio.wait_for(sending, 60)

    asyncio.run(run())


def test_work_that_fails_is_not_taken_for_a_whole_tree(tmp_path: Path) -> None:
    async def work(channel: socket.socket) -> object:
        raise UserError("cannot mount it")

    async def run() -> None:
        async with connected(file_send({0: ToDirectory(str(tmp_path / "out"))})) as session:
            with pytest.raises(UserError, match="cannot mount it"):
                await send_tree(session, work)

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.root
def test_a_worker_sends_the_tree_of_a_snapshot(tree: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    upper = tmp_path / "upper"
    upper.mkdir()
    (upper / "added").write_bytes(b"added")
    mount = tmp_path / "mount"
    mount.mkdir()
    target = tmp_path / "out"

    async def run() -> None:
        workers = Workers()

        async def work(channel: socket.socket) -> object:
            sent = ExportTree([str(tree), str(upper)], str(mount), userxattr=False)
            return await workers.call(job(send_job, [sent]), fds=[channel.fileno()])

        try:
            async with connected(file_send({0: ToDirectory(str(target))})) as session:
                await send_tree(session, work)
        finally:
            await workers.close()
        found = describe(target)
        assert found.pop("added")[2] == b"added"
        assert found == describe(tree)

    asyncio.run(run())
