"""Forwarded ssh agents: a real ssh-agent behind the socket that a step sees [MNT-20, SEC-4]."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.executor.runner import BuildRunner
from pybuild.executor.sources.agents import AgentSocket, SshAgent, read_key
from pybuild.model.errors import UserError
from pybuild.model.events import Event, VertexLog
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    LocalSource,
    Mount,
    MountType,
    NetworkMode,
    ScratchSource,
    StepSettings,
    Vertex,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.snapshot import LocalTree, Snapshot
from tests.executor.sandbox_helpers import make_base, skip_unless_possible
from tests.executor.sourcesites import SourceSite, on_site
from tests.needs import need

FAILURE = b"\0\0\0\1\5"


@pytest.fixture(autouse=True)
def _needs_ssh() -> None:  # pyright: ignore[reportUnusedFunction]
    need("ssh-agent", "ssh-add", "ssh-keygen")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "id", "")


def make_key(path: Path, passphrase: str) -> Path:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "mine", "-f", str(path)]
    subprocess.run(words, check=True, timeout=60)
    return path


@pytest.fixture
def agent(key: Path) -> Generator[str]:
    """The socket of a user's agent that has the key."""
    path = f"/tmp/pybuild-agent-{os.getpid()}"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ask(path, "-q", str(key))
        yield path
    finally:
        process.kill()
        process.wait(60)
        if os.path.exists(path):
            os.unlink(path)


def ask(path: str, *words: str, code: int = 0) -> str:
    """Run ssh-add against the agent at *path*."""
    done = subprocess.run(
        ["ssh-add", *words],
        env={**os.environ, "SSH_AUTH_SOCK": path},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.decode() + done.stderr.decode()


def keepers() -> list[list[bytes]]:
    """The agents that workers have started."""
    found: list[list[bytes]] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"ssh-agent", b"-D"] and b"/proc/" in words[3]:
            found.append(words)
    return found


async def short(agent: AgentSocket) -> str:
    """A path to the agent's socket that is short enough to connect to."""
    return f"/proc/{os.getpid()}/fd/{await agent.directory()}/agent"


def test_the_users_agent_lists_and_signs_and_nothing_else(
    tmp_path: Path, agent: str, key: Path
) -> None:
    other = make_key(tmp_path / "other", "")

    async def body(site: SourceSite) -> None:
        async with site.sources(ssh=[SshAgent(id="default", socket=agent)]) as sources:
            path = await short(sources.agents["default"])
            assert "mine" in await asyncio.to_thread(ask, path, "-l")
            public = f"{key}.pub"
            await asyncio.to_thread(ask, path, "-T", public)  # signs and verifies
            for words in (("-D",), ("-d", public), (str(other),)):
                await asyncio.to_thread(ask, path, *words, code=1)
            assert "mine" in await asyncio.to_thread(ask, agent, "-l")

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    "message",
    [b"\0\0\0\1\x16", b"\0\0\0\5\x16\0\0\0\0", b"\0\0\0\1\x1b", b"\0\0\0\2\x14x", b"\0\0\0\1\0"],
)
def test_requests_that_change_the_agent_never_reach_it(
    tmp_path: Path, agent: str, message: bytes
) -> None:
    async def body(site: SourceSite) -> None:
        async with site.sources(ssh=[SshAgent(id="default", socket=agent)]) as sources:
            path = await short(sources.agents["default"])
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(message)
            async with asyncio.timeout(60):
                assert await reader.readexactly(5) == FAILURE
            writer.close()
            for huge in (b"\xff\xff\xff\xff\x0b", b"\0\0\0\0"):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(huge)
                async with asyncio.timeout(60):
                    assert await reader.read() == b""
                writer.close()

    on_site(tmp_path, body)


def test_keys_get_an_agent_of_their_own(tmp_path: Path, key: Path) -> None:
    async def body(site: SourceSite) -> None:
        given = SshAgent(id="x", keys=((str(key), read_key("x", str(key))),))
        async with site.sources(ssh=[given]) as sources:
            path = await short(sources.agents["x"])
            assert "mine" in await asyncio.to_thread(ask, path, "-l")
            await asyncio.to_thread(ask, path, "-T", f"{key}.pub")
        async with asyncio.timeout(60):
            while keepers():  # the kernel ends it a moment after its worker
                await asyncio.sleep(0.02)
        for path_of_file in Path(site.store.root).rglob("*"):
            if path_of_file.is_file():
                assert b"PRIVATE KEY" not in path_of_file.read_bytes()

    on_site(tmp_path, body)


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", "secret")
    (tmp_path / "text").write_text("hello")

    async def body(site: SourceSite) -> None:
        data = read_key("x", str(locked))
        async with site.sources(ssh=[SshAgent(id="x", keys=((str(locked), data),))]) as sources:
            with pytest.raises(UserError, match="it has a passphrase or is none"):
                await sources.agents["x"].directory()

    on_site(tmp_path, body)
    for name in ("text", "none"):
        with pytest.raises(UserError, match='ssh "x": '):
            read_key("x", str(tmp_path / name))


def test_a_raw_socket_hands_on_anything(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    async def body(site: SourceSite) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        server = await asyncio.start_unix_server(echo, sock=listener)
        given = SshAgent(id="x", socket=str(tmp_path / "s"), raw=True)
        async with site.sources(ssh=[given]) as sources:
            reader, writer = await asyncio.open_unix_connection(await short(sources.agents["x"]))
            writer.write(b"hello")
            writer.write_eof()
            async with asyncio.timeout(60):
                assert await reader.read() == b"HELLO"
            writer.close()
        server.close()

    on_site(tmp_path, body)


@pytest.mark.root
@pytest.mark.sandbox
def test_a_step_talks_to_the_agent(tmp_path: Path, agent: str) -> None:
    """[MNT-20]: as the id it belongs to, and only where the mount stands."""
    skip_unless_possible()

    async def body(site: SourceSite) -> None:
        base = LocalTree(str(make_base(tmp_path / "base")))
        events: list[Event] = []
        async with site.sources(ssh=[SshAgent(id="k", socket=agent)]) as sources:
            runner = BuildRunner(
                site.store,
                site.workers,
                fetcher=None,  # type: ignore[arg-type]
                locals={"context": base},
                sources=sources,
            )
            async with runner:
                local, scratch = Vertex(LocalSource(name="context")), Vertex(ScratchSource())
                copy = Vertex(
                    FileOp(actions=(Copy(input=1, source="/", dest="/"),)), (scratch, local)
                )
                root = await runner.run(copy, [Snapshot(), base], events.append)
                mounts = (
                    Mount(target="/", input=0, output=True),
                    Mount(target="/run/buildkit/ssh_agent.0", type=MountType.SSH, id="k"),
                    Mount(target="/mine", type=MountType.SSH, id="k", uid=1000, gid=5, mode=0o660),
                    Mount(target="/absent", type=MountType.SSH, id="none"),
                )
                script = (
                    "stat -c '%F %u:%g %a' /run/buildkit/ssh_agent.0 /mine; "
                    "test ! -e /absent && echo absent; "
                    "printf '\\0\\0\\0\\1\\13' | /bin/busybox nc local:/run/buildkit/ssh_agent.0 "
                    "| /bin/busybox tr -dc 'a-z' && echo"
                )
                step = ExecOp(
                    args=("/bin/sh", "-c", script),
                    env=("PATH=/bin",),
                    cwd="/",
                    mounts=mounts,
                    platform=LINUX_AMD64,
                    settings=StepSettings(network=NetworkMode.NONE),
                )
                done = await runner.run(Vertex(step, (copy,)), [root], events.append)
        out = b"".join(e.data for e in events if isinstance(e, VertexLog)).decode()
        assert "socket 0:0 600\nsocket 1000:5 660\nabsent\n" in out
        assert isinstance(done, Snapshot)
        assert os.listdir(site.store.deltas.path(done.deltas[-1])) == []

    on_site(tmp_path, body)
