"""`LLBBridge/ExecProcess`: processes in the containers of a build, any number over one stream [6]."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from pybuild.buildkit.llb import fields
from pybuild.buildkit.llb.execs import SECURITY
from pybuild.buildkit.llb.graph import MAX_QUOTED
from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.ops import SecretEnv
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.daemon.builds.containers import HeldContainer
from pybuild.daemon.builds.runningfrontend import RunningFrontend
from pybuild.daemon.frontend.parsing import parse
from pybuild.executor.steps.container import ProcessSettings
from pybuild.executor.steps.processstreams import ProcessStreams
from pybuild.executor.workers.workers import RunningStep
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import Mount, MountType
from pybuild.net.grpc.calls import IncomingCall
from pybuild.net.grpc.status import Code, RpcError

MOST_PROCESSES = 256
_FAILED = 255
"""The exit code of a process that has none."""


async def serve_processes(call: IncomingCall, frontend: RunningFrontend) -> None:
    """Start what the client asks for, and tell it of the rest, until both have nothing more to say.

    Raises:
        RpcError: a message that makes no sense; all processes of the stream end.
    """
    stream = _Stream(call, frontend)
    try:
        while (data := await call.receive()) is not None:
            await stream.take(parse(pb.ExecMessage(), data))
        await stream.wait()
    finally:
        await stream.close()


class _Stream:
    def __init__(self, call: IncomingCall, frontend: RunningFrontend) -> None:
        self._call = call
        self._frontend = frontend
        self._processes: dict[str, _Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, message: pb.ExecMessage) -> None:
        id = message.ProcessID
        if not id:
            raise RpcError(Code.INVALID_ARGUMENT, "ProcessID required")
        kind = message.WhichOneof("Input")
        known = self._processes.get(id)
        if kind == "Init":
            if known is not None:
                raise RpcError(Code.ALREADY_EXISTS, f"Process {id} already exists")
            await self._start(id, message.Init)
            return
        if known is None:
            raise RpcError(Code.NOT_FOUND, f'IO for process "{id}" not found')
        if kind == "File":
            await known.write(message.File)
        elif kind == "Resize":
            known.resize(message.Resize.Rows, message.Resize.Cols)
        elif kind == "Signal":
            known.signal(message.Signal.Name)
        else:
            raise RpcError(Code.INVALID_ARGUMENT, f"unexpected message {kind}")

    async def _start(self, id: str, init: pb.InitMessage) -> None:
        if len(self._tasks) >= MOST_PROCESSES:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"at most {MOST_PROCESSES} processes at once")
        held = self._frontend.containers.find(init.ContainerID)
        process = _Process(id, self._call, self._frontend, init)
        self._processes[id] = process
        task = asyncio.create_task(process.run(held))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.wait()


class _Process:
    def __init__(
        self, id: str, call: IncomingCall, frontend: RunningFrontend, init: pb.InitMessage
    ) -> None:
        self._id = id
        self._call = call
        self._frontend = frontend
        self._init = init
        self._ready: asyncio.Future[RunningStep] = asyncio.get_running_loop().create_future()
        self._early: list[int] = []  # signals before it was ready
        self._streams = ProcessStreams(frozenset(init.Fds), terminal=init.Tty)

    async def write(self, message: pb.FdMessage) -> None:
        """Take a piece of its standard input, or the end of that."""
        if message.Fd:
            raise RpcError(Code.OUT_OF_RANGE, f"fd {message.Fd} unavailable to write")
        await self._streams.write(message.Data)
        if message.EOF:
            self._streams.end_input()

    def resize(self, rows: int, columns: int) -> None:
        self._streams.resize(rows, columns)

    def signal(self, name: str) -> None:
        number = signal.Signals.__members__.get(f"SIG{name}")
        if number is None:
            raise RpcError(Code.INVALID_ARGUMENT, f"Unknown signal {name[:MAX_QUOTED]}")
        if self._ready.done():
            self._ready.result().signal(int(number))
        else:
            self._early.append(int(number))

    async def run(self, held: HeldContainer) -> None:
        """Run it, from its start to the last word about it."""
        try:
            await self._attend(held)
        except* RpcError:
            pass  # the call has ended, and who serves it has heard so
        finally:
            self._streams.close()

    async def _attend(self, held: HeldContainer) -> None:
        is_first = not held.container.has_begun
        running = asyncio.ensure_future(self._run(held))
        try:
            # BuildKit's client takes one message after the other for all its processes: where one writes
            # to another that is to be started, the word that it was must come before what is written.
            if is_first:
                begins: set[asyncio.Future[Any]] = {running, self._ready}
                await asyncio.wait(begins, return_when=asyncio.FIRST_COMPLETED)
            await self._say(pb.ExecMessage(Started=pb.StartedMessage()))
            async with asyncio.TaskGroup() as group:
                for number in self._streams.outputs:
                    group.create_task(self._forward(number))
                exit = await running
                self._streams.has_ended()
        finally:
            running.cancel()
            await asyncio.wait({running})
        await self._say(pb.ExecMessage(Exit=exit))
        await self._say(pb.ExecMessage(Done=pb.DoneMessage()))

    async def _run(self, held: HeldContainer) -> pb.ExitMessage:
        try:
            settings = _settings(self._init, held.env)
            ended = await held.container.run(settings, self._streams.stdio, self._is_ready)
        except PybuildError as error:
            status = Status.FromString(self._frontend.error(error).details)
            return pb.ExitMessage(Code=_FAILED, Error=status)
        if not ended.status:
            return pb.ExitMessage()
        shown = json.dumps(" ".join(settings.args), ensure_ascii=False)
        text = f"process {shown} did not complete successfully: exit code: {ended.status}"
        return pb.ExitMessage(Code=ended.status, Error=Status(code=Code.UNKNOWN, message=text))

    def _is_ready(self, step: RunningStep) -> None:
        self._streams.handed_over()
        if not self._ready.done():
            self._ready.set_result(step)
        for number in self._early:
            step.signal(number)

    async def _forward(self, number: int) -> None:
        """Send what the process writes, as fast as the client takes it."""
        while data := await self._streams.read(number):
            if number in self._init.Fds:
                await self._say(pb.ExecMessage(File=pb.FdMessage(Fd=number, Data=data)))
        if number in self._init.Fds:
            await self._say(pb.ExecMessage(File=pb.FdMessage(Fd=number, EOF=True)))

    async def _say(self, message: pb.ExecMessage) -> None:
        message.ProcessID = self._id
        await self._call.send(message.SerializeToString())


def _settings(init: pb.InitMessage, env: tuple[str, ...]) -> ProcessSettings:
    """Return the program that the client wants.

    Raises:
        UserError: it cannot be.
    """
    meta = init.Meta
    if not meta.args:
        raise UserError("no command to run in the container")
    if init.Security not in SECURITY:
        raise UserError(f"invalid security mode: {init.Security}")
    if init.Tty:
        env = (*env, "TERM=xterm")
    return ProcessSettings(
        args=fields.texts(meta.args, "an argument"),
        env=(*env, *fields.texts(meta.env, "a variable")),
        secrets=tuple(_secret(one) for one in init.secretenv),
        cwd=fields.path(meta.cwd, "the working directory"),
        user=fields.text(meta.user, "the user"),
        security=SECURITY[init.Security],
    )


def _secret(secret: SecretEnv) -> Mount:
    if not secret.ID:
        raise UserError(f'secret ID missing for "{secret.name}" environment variable')
    return Mount(
        target="",
        type=MountType.SECRET,
        id=secret.ID,
        env=fields.text(secret.name, "a secret"),
        required=not secret.optional,
    )
