"""Containers of a parked build, as a client's frontend has them: a base to make them of, and processes."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb import ops
from pybuild.client.filesync import file_sync
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.clientcall import ClientCall
from pybuild.net.grpc.status import RpcError
from tests.daemon.gateways import BRIDGE, Gateway, parked
from tests.daemon.test_serverbuilds import Client
from tests.executor.sandbox_helpers import APPLETS, BUSYBOX, GROUP, PASSWD

WAIT_S = 60


def write_base(context: Path) -> None:
    """Write a context whose Dockerfile makes a small image with a shell."""
    root = context / "root"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "tmp").mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in (*APPLETS, "stty"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY root/ /\n")


@dataclass
class Process:
    """The messages that are heard of one."""

    outputs: dict[int, bytes] = field(default_factory=dict[int, bytes])
    started: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)
    exit: pb.ExitMessage | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def says(self, text: bytes) -> None:
        """Wait until it has written *text*."""
        async with asyncio.timeout(WAIT_S), self.heard:
            await self.heard.wait_for(lambda: text in b"".join(self.outputs.values()))

    async def ended(self) -> tuple[int, bytes, bytes]:
        """Return its exit code, and what it wrote to standard output and error."""
        async with asyncio.timeout(WAIT_S):
            await self.done.wait()
        assert self.exit is not None
        return self.exit.Code, self.outputs.get(1, b""), self.outputs.get(2, b"")


class Processes:
    """The stream of all processes of a client."""

    def __init__(self, call: ClientCall) -> None:
        self._call = call
        self.known: dict[str, Process] = {}

    async def hear(self) -> None:
        """Hear all that comes; who waits for a process is not kept waiting for what never comes."""
        try:
            await self._hear()
        finally:
            for process in self.known.values():
                process.done.set()

    async def _hear(self) -> None:
        while (data := await self._call.receive()) is not None:
            message = pb.ExecMessage.FromString(data)
            process = self.known[message.ProcessID]
            match message.WhichOneof("Input"):
                case "Started":
                    process.started.set()
                case "File":
                    number = message.File.Fd
                    process.outputs[number] = process.outputs.get(number, b"") + message.File.Data
                case "Exit":
                    process.exit = message.Exit
                case _:
                    process.done.set()
            async with process.heard:
                process.heard.notify_all()

    async def send(self, id: str, **message: object) -> None:
        """Send something about the process *id*."""
        await self.send_raw(pb.ExecMessage(ProcessID=id, **message))  # type: ignore[arg-type]

    async def send_raw(self, message: pb.ExecMessage) -> None:
        await self._call.send(message.SerializeToString())

    async def start(
        self,
        container: str,
        *args: str,
        stdin: bytes | None = None,
        fds: Sequence[int] = (1, 2),
        tty: bool = False,
        meta: Mapping[str, object] | None = None,
        **init: object,
    ) -> tuple[str, Process]:
        """Start a process, with *stdin* and its end if that is given; return its id, too."""
        id = os.urandom(6).hex()
        self.known[id] = process = Process()
        message = pb.InitMessage(
            ContainerID=container,
            Meta=ops.Meta(args=args, **(meta or {})),  # type: ignore[arg-type]
            Fds=[*([0] if stdin is not None or tty else []), *fds],
            Tty=tty,
            **init,  # type: ignore[arg-type]
        )
        await self.send(id, Init=message)
        if stdin is not None:
            await self.send(id, File=pb.FdMessage(Data=stdin))
            await self.send(id, File=pb.FdMessage(EOF=True))
        async with asyncio.timeout(WAIT_S):
            await process.started.wait()
        return id, process

    async def run(self, container: str, *args: str, **how: object) -> tuple[int, bytes, bytes]:
        """Run a process to its end."""
        _, process = await self.start(container, *args, **how)  # type: ignore[arg-type]
        return await process.ended()


class Site:
    """A parked build with a base, and its containers."""

    def __init__(self, gate: Gateway, base: str, processes: Processes) -> None:
        self.gate = gate
        self.base = base
        self.processes = processes

    async def container(self, *mounts: ops.Mount, root: str = "", **wanted: object) -> str:
        """Make a container on the base, or on the tree *root*."""
        id = os.urandom(6).hex()
        first = ops.Mount(dest="/", resultID=root or self.base)
        request = pb.NewContainerRequest(
            ContainerID=id,
            Mounts=[first, *mounts],
            **wanted,  # type: ignore[arg-type]
        )
        await self.gate.call("NewContainer", request.SerializeToString())
        return id

    async def release(self, container: str) -> None:
        request = pb.ReleaseContainerRequest(ContainerID=container)
        await self.gate.call("ReleaseContainer", request.SerializeToString())

    async def file(self, container: str, path: str, mount: int = 0) -> bytes:
        request = pb.ReadFileRequest(Ref=container, FilePath=path, MountIndex=mount)
        data = await self.gate.call("ReadFileContainer", request.SerializeToString())
        return pb.ReadFileResponse.FromString(data).Data


@asynccontextmanager
async def processes_of(
    client: Client, gate: Gateway, *, hears: bool = True
) -> AsyncGenerator[Processes]:
    """Open the stream of processes, and hear what comes unless the caller does."""
    async with client.channel.stream(BRIDGE + "ExecProcess", metadata=gate.metadata) as call:
        processes = Processes(call)
        hearing = asyncio.create_task(processes.hear() if hears else asyncio.sleep(0))
        try:
            yield processes
        finally:
            hearing.cancel()
            (error,) = await asyncio.gather(hearing, return_exceptions=True)
            if isinstance(error, RpcError):
                raise error


@asynccontextmanager
async def site(
    client: Client, context: Path, handlers: Mapping[str, Handler] | None = None
) -> AsyncGenerator[Site]:
    """Park a build with the base of *context*."""
    offered = file_sync({"context": str(context), "dockerfile": str(context)}) | dict(
        handlers or {}
    )
    async with parked(client.channel, offered) as gate:
        made = await gate.solve(pb.SolveRequest(Frontend="dockerfile.v0", Evaluate=True))
        async with processes_of(client, gate) as processes:
            yield Site(gate, made.ref.id, processes)
