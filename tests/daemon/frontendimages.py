"""Frontends in images, whose programs are functions of the tests: no container is made."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from pybuild.buildkit.pb import gateway as pb
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.daemon.builds.scope import Scope
from pybuild.executor.steps.container import ProcessSettings, StepContainer
from pybuild.executor.steps.spec import StepExit
from pybuild.executor.workers.workers import RunningStep
from pybuild.model.ops import ExecOp, Vertex
from pybuild.model.snapshot import Result
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.status import RpcError
from tests.daemon.gateways import BRIDGE


class Bridge:
    """The gateway service, as a program in a container has it.

    Attributes:
        opts: the attributes that it was handed; *env*: all of its variables.
        stdio: its descriptors.
    """

    def __init__(self, settings: ProcessSettings, stdio: tuple[int, int, int]) -> None:
        self.env = _pairs(settings.env)
        prefix = "BUILDKIT_FRONTEND_OPT_"
        self.opts = _pairs(v for name, v in self.env.items() if name.startswith(prefix))
        self.stdio = stdio
        self.args = settings.args
        self.channel: Channel | None = None

    async def call(self, method: str, request: bytes = b"") -> bytes:
        if self.channel is None:
            self.channel = await Channel.over(_Stream(*self.stdio[:2]))
        return await self.channel.unary(BRIDGE + method, request, timeout=60)

    async def solve(self, **request: Any) -> pb.Result:
        message = pb.SolveRequest(allowResultReturn=True, allowResultArrayRef=True, **request)
        return pb.SolveResponse.FromString(
            await self.call("Solve", message.SerializeToString())
        ).result

    async def give(self, result: pb.Result | None = None, error: Status | None = None) -> None:
        request = pb.ReturnRequest(result=result, error=error)
        await self.call("Return", request.SerializeToString())


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    split = (text.partition("=") for text in texts)
    return {name: value for name, _, value in split}


Program = Callable[[Bridge], Awaitable[int]]
"""Drives a build; returns its exit code."""


class _Stream:
    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin, self._stdout = stdin, stdout

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(self._stdin, tell)
        try:
            await ready
        finally:
            loop.remove_reader(self._stdin)
        return os.read(self._stdin, 1 << 16)

    async def write(self, data: bytes, /) -> None:
        os.write(self._stdout, data)

    def close(self) -> None:
        pass


class Container:
    """A container with *programs* by the first argument of their images' entry points."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.programs = programs
        self.ops: list[ExecOp] = []
        self.cancelled = 0

    async def run(
        self,
        settings: ProcessSettings,
        stdio: tuple[int, int, int],
        on_ready: Callable[[RunningStep], None],
    ) -> StepExit:
        own = tuple(os.dup(fd) for fd in stdio)
        bridge = Bridge(settings, cast(tuple[int, int, int], own))
        on_ready(cast(RunningStep, None))
        try:
            return StepExit(status=await self.programs[settings.args[0]](bridge))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except RpcError as error:
            os.write(own[2], f"Traceback\n  ...\n{error}\n\n".encode())
            return StepExit(status=128 + signal.SIGSEGV)
        finally:
            if bridge.channel is not None:
                await bridge.channel.close()
            for fd in own:
                os.close(fd)


def contained(patch: pytest.MonkeyPatch, **programs: Program) -> Container:
    """Let containers of builds run *programs*."""
    container = Container(programs)

    @asynccontextmanager
    async def of(
        scope: Scope, vertex: Vertex, op: ExecOp, inputs: Sequence[Result]
    ) -> AsyncGenerator[StepContainer]:
        container.ops.append(op)
        yield cast(StepContainer, container)

    patch.setattr(Scope, "container", of)
    return container
