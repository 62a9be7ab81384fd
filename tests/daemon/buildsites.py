"""A real ``pybuild daemon``, and a client of it that speaks the protocol and nothing of ours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pybuild.buildkit.pb import control as pb
from pybuild.client.filesend import ToDirectory, ToStream, file_send
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from pybuild.daemon.session.verdicts import METHOD as CHECK_POLICY
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.channel import Channel
from tests.harness import Pybuild, make_base

CONTROL = "/moby.buildkit.v1.Control/"
READY_S = 60.0


class Daemon:
    """The process; its address and what it has said."""

    def __init__(self, pybuild: Pybuild, socket: Path, *words: str, lifetime_s: int = 1800) -> None:
        self.address = f"unix://{socket}"
        self.socket = socket
        self.log = socket.with_suffix(".log")
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["timeout", "-k", "5", str(lifetime_s)]
                + pybuild.command("daemon", "--addr", self.address, *words),
                env=pybuild.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> float:
        """Wait until it listens; return how long that took."""
        began = time.monotonic()
        while f"running server on {self.address}" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - began < READY_S, self.said()
            time.sleep(0.01)
        return time.monotonic() - began

    def said(self) -> str:
        return self.log.read_bytes()[self._begin :].decode(errors="replace")

    def stop(self) -> int:
        """End it as a service manager would, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """End it as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


@contextmanager
def daemon(pybuild: Pybuild, folder: Path, *words: str) -> Generator[Daemon]:
    """Run a server on a socket in *folder*."""
    found = Daemon(pybuild, folder / "d.sock", *words)
    try:
        found.wait_ready()
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()


@dataclass
class Built:
    """The messages that a client hears of one build."""

    response: Mapping[str, str] = field(default_factory=dict[str, str])
    vertexes: dict[str, pb.Vertex] = field(default_factory=dict[str, pb.Vertex])
    logs: bytes = b""
    warnings: list[pb.VertexWarning] = field(default_factory=list[pb.VertexWarning])

    def names(self) -> list[str]:
        return [vertex.name for vertex in self.vertexes.values()]

    def take(self, data: bytes) -> None:
        message = pb.StatusResponse.FromString(data)
        for vertex in message.vertexes:
            self.vertexes[vertex.digest] = vertex
        self.logs += b"".join(log.msg for log in message.logs)
        self.warnings += message.warnings


class Client:
    """Solves by the control service alone, as BuildKit's Go library does."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def call(self, method: str, request: bytes = b"") -> bytes:
        return await self.channel.unary(CONTROL + method, request, timeout=60)

    async def build(
        self,
        context: Path | None,
        *,
        attrs: Mapping[str, str] | None = None,
        exporters: Sequence[tuple[str, Mapping[str, str]]] = (),
        targets: Mapping[int, ToDirectory | ToStream] | None = None,
        handlers: Mapping[str, Handler] | None = None,
        entitlements: Sequence[str] = (),
        ref: str = "",
        built: Built | None = None,
    ) -> Built:
        """Build *context*; what was heard until a failure is in *built*."""
        offered = dict(handlers or {})
        if context is not None:
            offered |= file_sync({"context": str(context), "dockerfile": str(context)})
        if targets:
            offered |= file_send(targets)
        request = pb.SolveRequest(
            Ref=ref,
            Frontend="dockerfile.v0",
            FrontendAttrs={"image-resolve-mode": "local", **(attrs or {})},
            Exporters=[pb.Exporter(Type=kind, Attrs=given) for kind, given in exporters],
            Entitlements=entitlements,
        )
        return await self.solve(request, offered, built)

    async def solve(
        self, request: pb.SolveRequest, offered: Mapping[str, Handler], built: Built | None = None
    ) -> Built:
        """Do *request* in a session of its own, which offers what is *offered*."""
        built = built if built is not None else Built()
        request.Ref = request.Ref or os.urandom(8).hex()
        async with ClientSession(offered).open(self.channel) as session:
            request.Session = session.id
            if CHECK_POLICY in offered:
                request.SourcePolicySession = session.id
            watching = asyncio.create_task(self._watch(request.Ref, built))
            try:
                data = await self.call("Solve", request.SerializeToString())
            finally:
                await asyncio.wait_for(watching, 60)
        built.response = dict(pb.SolveResponse.FromString(data).ExporterResponse)
        return built

    async def _watch(self, ref: str, built: Built) -> None:
        request = pb.StatusRequest(Ref=ref).SerializeToString()
        async with self.channel.stream(CONTROL + "Status") as call:
            await call.send(request)
            await call.half_close()
            while (message := await call.receive()) is not None:
                built.take(message)


@asynccontextmanager
async def client(address: str) -> AsyncGenerator[Client]:
    """Connect, and give up after a minute whatever happens."""
    async with asyncio.timeout(60):
        channel = await Channel.connect(address)
        try:
            yield Client(channel)
        finally:
            await channel.close()


Use = Callable[[Client], Awaitable[None]]


def on(server: Daemon, use: Use) -> None:
    """Let *use* have a client of *server*."""

    async def run() -> None:
        async with client(server.address) as connected:
            await use(connected)

    asyncio.run(run())


def pybuild_with_base(where: Path) -> Pybuild:
    """Return pybuild on a store in *where* with an image ``base:1`` that has a shell."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base:1")
    return pybuild


def image_config(layout: Path, digest: str) -> dict[str, object]:
    """Return the config of the image *digest* of a layout directory."""
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
    config = manifest["config"]["digest"].removeprefix("sha256:")
    found: dict[str, object] = json.loads((blobs / config).read_bytes())
    return found
