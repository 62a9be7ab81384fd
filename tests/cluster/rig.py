"""Workers as processes of their own, and an engine here whose builds run their steps on them."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pybuild.builds.build import build
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.cluster.certificates import Certificates
from pybuild.cluster.cluster import Cluster
from pybuild.cluster.members import Members
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.exporter.output import Output
from pybuild.model.events import Event, VertexLog
from tests.harness import BUSYBOX, TOOLS, Pybuild
from tests.needs import need

READY_S = 60.0
HERE = "here"
BASE = "FROM scratch AS base\nCOPY root/ /\nENV PATH=/bin\n"


class WorkerProcess:
    """A ``pybuild worker`` on a store of its own, which ends when we do, be it by SIGKILL.

    Args:
        before: a command that gets its directory and runs it.
    """

    def __init__(
        self,
        place: Path,
        name: str,
        slots: int,
        *words: str,
        address: str = "",
        before: tuple[str, ...] = (),
    ) -> None:
        self.root = place / name
        self.root.mkdir(mode=0o700, exist_ok=True)
        self.address = address or f"unix://{place}/{name}.sock"
        self.log = place / f"{name}.log"
        self._begin = self.log.stat().st_size if self.log.exists() else 0
        pybuild = Pybuild(self.root)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["timeout", "-k", "5", "3600", *before, *([str(self.root)] if before else [])]
                + pybuild.command(
                    *("worker", "--until-eof", "--addr", self.address, "--slots", str(slots)),
                    *words,
                ),
                env=pybuild.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        began = time.monotonic()
        while f"running worker on {self.address}" not in self.said():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - began < READY_S, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        return self.log.read_bytes()[self._begin :].decode(errors="replace")

    def kill(self) -> None:
        """End the process and all that it started as a machine's death would."""
        subprocess.run(["pkill", "-KILL", "-s", str(self.process.pid)], check=False, timeout=10)
        self.process.wait(10)
        self.hang_up()

    def hang_up(self) -> None:
        """Close its standard input, as our end would."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        self.hang_up()


class Site:
    """A coordinator and its workers."""

    def __init__(self, engine: Engine, cluster: Cluster, workers: dict[str, WorkerProcess]) -> None:
        self.engine, self.cluster, self.workers = engine, cluster, workers
        self.relays: dict[str, Relay] = {}
        self.events: list[Event] = []

    async def build(
        self, context: Path, emit: Callable[[Event], None] | None = None, **options: Any
    ) -> BuildResult:
        """Build an image of *context*, whose times do not differ between machines."""
        output = Output(type="image", attrs={"rewrite-timestamp": "true"})
        request = BuildRequest(
            context=str(context),
            outputs=(output,),
            build_args={"SOURCE_DATE_EPOCH": "0"},
            **options,
        )

        def note(event: Event) -> None:
            self.events.append(event)
            if emit is not None:
                emit(event)

        return await build(self.engine, request, note)

    @property
    def log(self) -> str:
        """All that steps wrote."""
        data = b"".join(event.data for event in self.events if isinstance(event, VertexLog))
        return data.decode(errors="replace")


@asynccontextmanager
async def site(
    root: Path,
    slots: Mapping[str, int],
    gone: tuple[str, ...] = (),
    tls: Mapping[str, Certificates] | None = None,
    before: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    relayed: tuple[str, ...] = (),
    scheduler: str = "",
    words: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> AsyncGenerator[Site]:
    """Start workers with so many slots each, and a coordinator; on TCP with certificates of them and `HERE`.

    With a *scheduler* steps begin by its claims. *words* are further arguments of workers.
    """
    place = Path(tempfile.mkdtemp(prefix="pbc-"))  # sockets have short names
    own = tls[HERE] if tls else Certificates()
    joins = ("--scheduler", scheduler.replace("tls:", "tcp:")) if scheduler else ()
    workers: dict[str, WorkerProcess] = {}
    stack = AsyncExitStack()
    try:
        for name, count in slots.items():
            if tls:
                given, address = tls_words(tls[name]), f"tcp://127.0.0.1:{free_port()}"
                workers[name] = WorkerProcess(place, name, count, *given, *joins, address=address)
            else:
                first, given = before.get(name, ()), words.get(name, ())
                workers[name] = WorkerProcess(place, name, count, *given, *joins, before=first)
        for worker in workers.values():
            await asyncio.to_thread(worker.wait_ready)
        addresses = [w.address for name, w in workers.items() if name not in relayed]
        relays: dict[str, Relay] = {}
        for name in relayed:
            path = workers[name].address.removeprefix("unix://")
            relays[name] = await stack.enter_async_context(Relay.to(path))
            addresses.append(f"unix://{path}.relay")
        addresses += [f"unix://{place}/{name}.sock" for name in gone]
        async with (
            Engine(Settings(root=str(root))) as engine,
            Members(() if scheduler else addresses, own, scheduler, count=len(slots)).clustered(
                engine
            ) as cluster,
        ):
            opened = Site(engine, cluster, workers)
            opened.relays = relays
            yield opened
    finally:
        await stack.aclose()
        for worker in workers.values():
            await asyncio.to_thread(worker.end)
        shutil.rmtree(place, ignore_errors=True)


def run_site(
    root: Path,
    slots: Mapping[str, int],
    work: Callable[[Site], Awaitable[None]],
    tls: Mapping[str, Certificates] | None = None,
    limit_s: float = 240.0,
    **given: Any,
) -> None:
    async def main() -> None:
        async with asyncio.timeout(limit_s), site(root, slots, tls=tls, **given) as opened:
            await work(opened)

    asyncio.run(main())


class Relay:
    """Carries bytes between a coordinator and a worker, while it *flows*.

    Attributes:
        carried: of each connection the bytes to the worker (True) and from it.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.carried: list[tuple[bool, bytearray]] = []
        self.flows = asyncio.Event()
        self.flows.set()

    @classmethod
    @asynccontextmanager
    async def to(cls, target: str) -> AsyncGenerator[Relay]:
        """Listen beside a worker's socket."""
        relay = cls(target)
        server = await asyncio.start_unix_server(relay._join, target + ".relay")
        try:
            yield relay
        finally:
            server.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_unix_connection(self._target)
        await asyncio.gather(
            self._carry(reader, to_them, is_to=True), self._carry(theirs, writer, is_to=False)
        )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_to: bool
    ) -> None:
        seen = bytearray()
        self.carried.append((is_to, seen))
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                seen += data
                await self.flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


def tls_words(certificates: Certificates) -> tuple[str, ...]:
    """Return the options that name certificates."""
    names = (("tlscacert", certificates.ca), ("tlscert", certificates.cert))
    named = (*names, ("tlskey", certificates.key))
    return tuple(word for name, value in named for word in (f"--{name}", value))


def free_port() -> int:
    """Return a port of the loopback device that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def build_alone(root: Path, context: Path, **options: Any) -> BuildResult:
    """Build on one machine, in a store of its own."""
    output = Output(type="image", attrs={"rewrite-timestamp": "true"})
    async with Engine(Settings(root=str(root))) as engine:
        request = BuildRequest(
            context=str(context),
            outputs=(output,),
            build_args={"SOURCE_DATE_EPOCH": "0"},
            **options,
        )
        return await build(engine, request, lambda event: None)


def context(path: Path, dockerfile: str, **files: str) -> Path:
    """Make a context with a shell; *dockerfile* follows a stage ``base``."""
    need("busybox")
    tools = path / "root" / "bin"
    tools.mkdir(parents=True)
    shutil.copy(str(BUSYBOX), tools / "busybox")
    for tool in TOOLS:
        (tools / tool).symlink_to("busybox")
    (path / "root" / "tmp").mkdir()
    (path / "Dockerfile").write_text(BASE + dockerfile)
    for name, text in files.items():
        (path / name).write_text(text)
    return path
