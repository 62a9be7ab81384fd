"""The process of a frontend, from its first byte to its result: it cannot keep a build waiting for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from pybuild.daemon.builds.runningfrontend import RunningFrontend
from pybuild.daemon.frontend.results import Result
from pybuild.executor.steps.container import ProcessSettings
from pybuild.executor.steps.processstreams import ProcessStreams
from pybuild.executor.steps.spec import StepExit
from pybuild.executor.workers.workers import RunningStep
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.link import GrpcLink
from pybuild.net.grpc.peer import Peer
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.tunnel import Tunnel

_STDOUT, _STDERR = 1, 2
_TAIL_BYTES = 4 << 10
_SHOWN = 300  # characters of the last line that it wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendBounds:
    """The times that a frontend may take.

    Attributes:
        silence_s: without a call under way, before its result.
        leave_s: to end, after it.
    """

    silence_s: float = 600.0
    leave_s: float = 10.0


class FrontendContainer(Protocol):
    """A container, as far as a frontend is run in it."""

    async def run(
        self,
        settings: ProcessSettings,
        stdio: tuple[int, int, int],
        on_ready: Callable[[RunningStep], None],
    ) -> StepExit:
        """Run its process; a cancelled one is killed."""
        ...


async def attend(
    name: str,
    container: FrontendContainer,
    settings: ProcessSettings,
    handlers: Mapping[str, Handler],
    frontend: RunningFrontend,
    bounds: FrontendBounds | None = None,
) -> Result:
    """Run the program *settings*, serve it *handlers*, and return the result that it returned.

    Raises:
        UserError: it has none, or failed. RpcError: it returned an error.
    """
    bounds = bounds or FrontendBounds()
    streams = ProcessStreams((0, _STDOUT, _STDERR), terminal=False)
    server, tail = GrpcServer(handlers), _Tail(streams)
    link = server.link(Peer())
    running = container.run(settings, streams.stdio, lambda _: streams.handed_over())
    process = asyncio.create_task(running)
    serving = asyncio.create_task(Tunnel(link, _Pipe(streams)).run())
    reading = asyncio.create_task(tail.read())
    try:
        if not await _is_over(process, serving, frontend, link, bounds):
            raise UserError(f"frontend {name} made no call for {bounds.silence_s:.0f} s")
        await asyncio.wait({process}, timeout=bounds.leave_s)
        if process.done():
            streams.has_ended()
            await asyncio.wait({reading, serving}, timeout=bounds.leave_s)
        return _outcome(name, frontend, process, tail.last_line)
    finally:
        for task in (process, serving, reading):
            task.cancel()
        await asyncio.wait({process, serving, reading})
        streams.close()
        await server.close(0)
        if frontend.returned.done():
            frontend.returned.exception()  # somebody has looked at it


async def _is_over(
    process: asyncio.Task[StepExit],
    serving: asyncio.Task[None],
    frontend: RunningFrontend,
    link: GrpcLink,
    bounds: FrontendBounds,
) -> bool:
    """Wait until there is a result, or none to come; False where nothing happens."""
    loop = asyncio.get_running_loop()
    ends: set[asyncio.Future[object]] = {process, serving, frontend.returned}  # type: ignore[arg-type]
    while not any(end.done() for end in ends):
        left_s = bounds.silence_s
        if not link.flows:
            left_s -= loop.time() - link.used_at
        if left_s <= 0:
            return False
        await asyncio.wait(ends, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    return True


def _outcome(
    name: str, frontend: RunningFrontend, process: asyncio.Task[StepExit], last_line: str
) -> Result:
    """Return the result of a frontend whose process has ended, or is to be ended.

    An error that it returned counts more than how its process ended, and that more than a result.
    """
    returned = frontend.returned
    if returned.done() and (error := returned.exception()) is not None:
        raise error
    words = f": {last_line}" if last_line else ""
    if process.done() and process.result().status:
        raise UserError(f"frontend {name} failed with exit code {process.result().status}{words}")
    if returned.done():
        return returned.result()
    if process.done():
        raise UserError(f"frontend {name} ended without a result{words}")
    raise UserError(f"frontend {name} closed its connection without a result{words}")


class _Pipe:
    """Standard input and output of a process as one stream of bytes."""

    def __init__(self, streams: ProcessStreams) -> None:
        self._streams = streams

    async def read(self) -> bytes:
        return await self._streams.read(_STDOUT)

    async def write(self, data: bytes, /) -> None:
        await self._streams.write(data)

    def close(self) -> None:
        self._streams.end_input()


class _Tail:
    """The end of what a process writes to standard error."""

    def __init__(self, streams: ProcessStreams) -> None:
        self._streams = streams
        self._data = b""

    async def read(self) -> None:
        while data := await self._streams.read(_STDERR):
            self._data = (self._data + data)[-_TAIL_BYTES:]

    @property
    def last_line(self) -> str:
        """The last line that says something."""
        lines = self._data.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_SHOWN]
