"""Streams of Docker's REST API: their ends, and who leaves or reads too slowly [ENG-22, ENG-34, ENG-35]."""

from __future__ import annotations

import asyncio
import bz2
import fcntl
import gzip
import json
import lzma
import marshal
import os
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zstandard
from aiohttp import web

from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.containers import Containers
from pybuild.containers.lines import SOCKET
from pybuild.containers.order import LOCK, STATE, StreamAttachment
from pybuild.containers.state import RUNNING, ContainerState, write_state
from pybuild.daemon.rest.app import RestApi
from pybuild.daemon.rest.decompressing import decompressed
from pybuild.daemon.rest.exchange import RestHost
from pybuild.daemon.rest.lines import Waiting, close_all
from pybuild.daemon.rest.progresslines import ProgressLines
from pybuild.daemon.rest.serving import RestServer
from pybuild.engine.host import SystemClock
from tests import watchdog

CONFIG = ContainerConfig(id="ab" * 32, name="web", image="app", manifest="", deltas=())
Ask = Callable[[str, str, object], Coroutine[Any, Any, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> Generator[Store]:
    with Store.open(tmp_path / "store", SystemClock()) as opened:
        yield opened


@asynccontextmanager
async def serving(store: Store, path: Path) -> AsyncGenerator[Ask]:
    """Serve Docker's API; yield what sends a request and returns all bytes of the connection."""
    host = RestHost(cast(Any, SimpleNamespace(store=store)))
    server = RestServer(RestApi(host).answer, keep_alive_s=60)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()

    async def ask(method: str, target: str, body: object = None) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        data = json.dumps(body).encode() if body is not None else b""
        kind = "Content-Type: application/json\r\n" if data else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: d\r\n{kind}Content-Length: {len(data)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + data)
        answer = await reader.read()
        writer.close()
        return answer

    try:
        yield ask
    finally:
        await runner.cleanup()
        host.close()


def running(store: Store) -> tuple[Container, int]:
    """Return a container whose monitor is as good as alive, and the descriptor that makes it so."""
    container = Containers(store).create(CONFIG)
    lock = os.open(os.path.join(container.path, LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with container.home() as home:
        write_state(home, ContainerState(RUNNING, pid=1))
    return container, lock


@watchdog.ends()
def test_a_stream_that_fails_has_no_second_answer_in_it(store: Store, tmp_path: Path) -> None:
    """The connection ends too soon, and that is all that a client can be told by then."""
    container = Containers(store).create(CONFIG)
    Path(container.path, STATE).write_bytes(b"{")

    async def work() -> bytes:
        async with serving(store, tmp_path / "s") as ask:
            return await ask("GET", "/containers/web/stats", None)

    answer = asyncio.run(work())
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1") == 1
    assert not answer.endswith(b"0\r\n\r\n")


@watchdog.ends()
def test_a_process_of_exec_is_started_once(store: Store, tmp_path: Path) -> None:
    """A second start of an exec is refused, and takes nothing from the one who has its streams [CTR-51]."""
    container, lock = running(store)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    home = os.open(container.path, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{home}/{SOCKET}")  # its own path may be too long
    os.close(home)
    listener.listen()
    heard: list[Any] = []
    is_refused = threading.Event()

    def monitor() -> None:
        line, _ = listener.accept()
        with line:
            heard.append(marshal.loads(line.recv(1 << 18))[0])
            is_refused.wait(60)
            line.send(marshal.dumps(("output", 1, b"mine")))
            line.send(marshal.dumps(("ended", 3)))
            while data := line.recv(1 << 18):
                heard.append(marshal.loads(data)[0])

    thread = threading.Thread(target=monitor)
    thread.start()

    async def work() -> tuple[bytes, bytes, bytes]:
        async with serving(store, tmp_path / "s") as ask:
            made = await ask("POST", "/containers/web/exec", {"Cmd": ["x"], "AttachStdout": True})
            id = json.loads(made.partition(b"\r\n\r\n")[2])["Id"]
            first = asyncio.create_task(ask("POST", f"/exec/{id}/start", {"Tty": True}))
            while not heard:
                await asyncio.sleep(0.005)
            second = await ask("POST", f"/exec/{id}/start", {"Tty": True})
            is_refused.set()
            return await first, second, await ask("GET", f"/exec/{id}/json", None)

    first, second, shown = asyncio.run(work())
    thread.join()
    listener.close()
    os.close(lock)
    assert first.endswith(b"\r\n\r\nmine") and second.endswith(b"has already run\r\n")
    assert json.loads(shown.partition(b"\r\n\r\n")[2])["ExitCode"] == 3
    assert heard == ["exec"]


def test_who_leaves_before_the_start_leaves_nothing() -> None:
    """A container that is never started keeps no descriptor of those who waited for it."""

    async def work() -> None:
        waiting = Waiting()
        stays = waiting.wait("a", StreamAttachment())
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            line = waiting.wait("a", StreamAttachment())
            await line.say("input", b"typed")
            waiting.leave("a", line)
        assert len(os.listdir("/proc/self/fd")) == before
        taken = waiting.take("a")
        assert len(taken) == 1
        close_all(taken)
        stays.close()

    asyncio.run(work())


def test_output_that_nobody_reads_is_left_out() -> None:
    """A build whose client stands still does not fill the server's memory; its end is told all the same."""
    lines = ProgressLines()
    for _ in range(100):
        lines.log("x" * (1 << 20))
    lines.say(aux={"ID": "sha256:1"})
    text = lines.rest()
    assert len(text) < 12 << 20 and text.count(b"output left out") == 1
    assert text.endswith(b'{"aux":{"ID":"sha256:1"}}\r\n')
    lines.log("again")
    assert lines.rest() == b'{"stream":"again"}\r\n'


def test_many_who_save_and_do_not_read_stop_nobody(store: Store) -> None:
    """Each has a thread of its own: those of the loop and of the other requests are free."""

    async def work() -> None:
        host, go_on = RestHost(cast(Any, SimpleNamespace(store=store))), threading.Event()
        saves = [host.alone(lambda: cast(None, go_on.wait(60))) for _ in range(40)]
        try:
            assert await host.run(int, "1") == await asyncio.to_thread(int, "1") == 1
        finally:
            go_on.set()
            await asyncio.gather(*saves)
            host.close()

    asyncio.run(work())


async def _pieces(data: bytes, size: int) -> AsyncGenerator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def _at_once(work: Callable[[], bytes]) -> bytes:
    return work()


def _plain(data: bytes, size: int = 1000) -> Iterator[bytes]:
    async def work() -> list[bytes]:
        return [piece async for piece in decompressed(_pieces(data, size), _at_once)]

    return iter(asyncio.run(work()))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "plain": bytes,
}


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_archives_in_all_compressions(name: str, size: int) -> None:
    """In pieces of any size, and of several members, as parallel programs write them."""
    pack, data = PACKERS[name], bytes(range(256)) * 20
    packed = pack(data) + pack(b"more") + (b"" if name == "plain" else bytes(100))
    assert b"".join(_plain(packed, size)) == data + b"more"


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz"])
def test_a_small_archive_that_is_large_inside(name: str) -> None:
    """An archive is never in memory at once."""
    sizes = [len(piece) for piece in _plain(PACKERS[name](bytes(6 << 20)), 1 << 16)]
    assert sum(sizes) == 6 << 20 and max(sizes) <= 1 << 20


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zstd"])
def test_a_damaged_archive(name: str) -> None:
    packed = PACKERS[name](bytes(range(256)) * 256)
    for data in (packed[:-9], packed[:20] + b"\xff" * 50 + packed[70:]):
        with pytest.raises(ValueError):
            list(_plain(data))
