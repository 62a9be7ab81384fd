"""The build server outlives its clients, and itself [remote-api 1-8, DMN]."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.buildsites import Built, Client, Daemon, client, daemon, on, pybuild_with_base
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
Use = Callable[[Client], Awaitable[None]]


pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def pybuild(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    return pybuild_with_base(tmp_path_factory.mktemp("daemon"))


@pytest.fixture(scope="module")
def server(pybuild: Pybuild, tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    with daemon(pybuild, tmp_path_factory.mktemp("s")) as running:
        yield running


def test_cancelling_ends_that_build_and_no_other(
    pybuild: Pybuild, server: Daemon, tmp_path: Path
) -> None:
    long = f"sleep 60{os.getpid()}"
    slow = write(tmp_path / "s", Dockerfile=f"FROM base:1\nRUN {long} # cancelled\n")
    other = write(tmp_path / "o", Dockerfile="FROM base:1\nRUN sleep 1; echo done > /x\n")

    async def use(c: Client) -> None:
        doomed = asyncio.create_task(c.build(slow, ref="doomed"))
        lives = asyncio.create_task(c.build(other))
        await _until(lambda: _running(long))
        doomed.cancel()
        await asyncio.wait([doomed], timeout=60)
        await _until(lambda: not _running(long))
        await lives

    on(server, use)


@pytest.mark.parametrize("phase", ["session", "context", "step", "export"])
def test_a_client_that_dies_hurts_nobody(server: Daemon, tmp_path: Path, phase: str) -> None:
    long = f"sleep 30{os.getpid()}"
    text = (
        f"FROM base:1\nCOPY . /c\nRUN {long} # {phase}\n"
        if phase == "step"
        else "FROM base:1\nCOPY . /c\n"
    )
    context = write(tmp_path / "c", Dockerfile=text, big="x" * 5_000_000)
    script = tmp_path / "client.py"
    script.write_text(_DYING.format(address=server.address, context=str(context), phase=phase))
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["timeout", "-s", "KILL", "40", sys.executable, "-P", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (-9, 137, 9), done.stderr.decode()[-2000:]

    async def use(c: Client) -> None:
        await _until(lambda: not _running(long))
        fine = write(tmp_path / "f", Dockerfile="FROM base:1\nRUN true\n")
        await c.build(fine)

    on(server, use)


_DYING = """
import asyncio, os, signal
from pathlib import Path
from pybuild.client.filesend import ToStream
from tests.daemon.buildsites import client, Built

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

class Deadly(Built):
    def take(self, data):
        super().take(data)
        names = [v.name for v in self.vertexes.values() if v.HasField("started")]
        if "{phase}" == "context" and any("build context" in n for n in names): die()
        if "{phase}" == "step" and any("sleep" in n for n in names): die()

async def main():
    async with client("{address}") as c:
        if "{phase}" == "session":
            from pybuild.client.session import ClientSession
            async with ClientSession({{}}).open(c.channel):
                die()
        await c.build(Path("{context}"), built=Deadly(), attrs={{"no-cache": ""}},
                      exporters=[("tar", {{}})], targets={{0: ToStream(die)}})

asyncio.run(main())
"""


def test_garbage_on_the_socket_is_closed_and_the_server_lives(server: Daemon) -> None:
    for data in (b"\0" * 4096, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(10_000)):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(60)
            raw.connect(str(server.socket))
            raw.sendall(data)
            while True:
                try:
                    if not raw.recv(65536):
                        break
                except ConnectionError:
                    break

    async def use(c: Client) -> None:
        await c.call("Info")
        with pytest.raises(RpcError) as caught:
            await c.call("Nothing")
        assert caught.value.code is Code.UNIMPLEMENTED

    on(server, use)


def test_it_starts_fast_and_ends_clean(pybuild: Pybuild, tmp_path: Path) -> None:
    one = Pybuild(tmp_path / "store")
    with daemon(one, tmp_path) as server:
        context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY Dockerfile /\n")
        on(server, partial(_build, context))
        assert server.stop() == 0
    assert not server.socket.exists()
    assert not leftovers(one.store)
    assert "Traceback" not in server.said()


async def _build(context: Path, c: Client) -> None:
    await c.build(context)


def finished(built: Built) -> set[str]:
    """Return the names of the vertexes whose end the client was told."""
    return {v.name for v in built.vertexes.values() if v.HasField("completed")}


def test_killed_under_load_it_comes_back_with_what_was_finished(
    tmp_path: Path, pybuild: Pybuild
) -> None:
    long = f"sleep 20{os.getpid()}"
    context = write(
        tmp_path / "c", Dockerfile=f"FROM base:1\nRUN echo $RANDOM > /kept\nRUN {long}\n"
    )
    fine = write(tmp_path / "f", Dockerfile="FROM base:1\nRUN echo $RANDOM > /kept\n")
    step = "[2/3] RUN echo $RANDOM > /kept"
    with daemon(pybuild, tmp_path) as first:

        async def start() -> None:
            async with client(first.address) as c:
                built = Built()
                task = asyncio.create_task(c.build(context, built=built))
                # The client is told of the end once the result is written; the next step runs before that.
                await _until(lambda: _running(long) and step in finished(built))
                first.kill()
                with pytest.raises((RpcError, TimeoutError)):
                    await asyncio.wait_for(task, 60)

        asyncio.run(start())
    with daemon(pybuild, tmp_path) as second:

        async def use(c: Client) -> None:
            built = await c.build(fine)
            cached = {v.name for v in built.vertexes.values() if v.cached}
            assert "[2/2] RUN echo $RANDOM > /kept" in cached

        on(second, use)
        assert second.stop() == 0
    assert not leftovers(pybuild.store / "nothing")
    assert not _running(long)


def _running(text: str) -> bool:
    wanted = text.encode().replace(b" ", b"\0") + b"\0"
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)
