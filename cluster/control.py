"""A coordinator's own door beside its store: the fleet, the placer's reasons, and draining, for `pybuild cluster`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from pybuild.cluster import wire
from pybuild.cluster.certificates import trusts
from pybuild.cluster.fleet import Fleet, Worker
from pybuild.cluster.messages import read
from pybuild.cluster.placing import table
from pybuild.daemon.sockets import door_of, listeners_at, remove_socket
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError

_LIST = "/pybuild.cluster.Control/List"
_WHY = "/pybuild.cluster.Control/Why"
_DRAIN = "/pybuild.cluster.Control/Drain"

A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownStep:
    """A step that runs, and for how long.

    Attributes:
        pause: the thing that it waits for there; empty: it runs.
        is_heard: it is another coordinator's, too, which had it begin.
    """

    step: str
    seconds: float
    pause: str = ""
    is_heard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownWorker:
    """A worker as people see it.

    Attributes:
        state: ready, draining, aside or away, with the reason of the last two.
    """

    name: str
    address: str
    state: str
    slots: int = 0
    platforms: tuple[str, ...] = ()
    version: str = ""
    steps: tuple[ShownStep, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFleet:
    """All workers of a coordinator."""

    workers: tuple[ShownWorker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlQuery:
    """The name of a step or a worker, or a part of one."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlText:
    """An answer for people."""

    text: str = ""


def control_address(root: str) -> str:
    """Return the address of the coordinator with the store at *root*."""
    return f"unix://{root.rstrip('/')}-cluster.sock"


@asynccontextmanager
async def controlled(fleet: Fleet, root: str) -> AsyncGenerator[None]:
    """Answer questions about *fleet* while the context is open; its own user and root may ask."""
    address = control_address(root)
    grpc = GrpcServer(_handlers(fleet))
    doors = [door_of(grpc, bound, None) for bound in await listeners_at(address)]
    try:
        yield
    finally:
        for door in doors:
            door.close()
        await grpc.close(0.0)
        await asyncio.gather(*[door.closed() for door in doors])
        remove_socket(address)


def _handlers(fleet: Fleet) -> dict[str, Handler]:
    def answering(answer: Callable[[str], object]) -> Handler:
        async def handle(request: bytes, call: IncomingCall) -> bytes:
            if not trusts(call.peer, ()):
                raise RpcError(Code.PERMISSION_DENIED, "this coordinator is another user's")
            return wire.write(answer(read(ControlQuery, request).name))

        return unary(handle)

    def why(name: str) -> ControlText:
        steps = [step for step in fleet.decisions if name in step]
        if not steps:
            raise RpcError(Code.NOT_FOUND, f'no step of late has "{name}" in its name')
        texts = (f"{step}\n{table(fleet.decisions[step])}" for step in steps)
        return ControlText(text="\n".join(texts))

    def drain(name: str) -> ControlText:
        for worker in fleet.connected:
            if name in (worker.name, worker.address):
                fleet.drain(worker.address)
                return ControlText(
                    text=f"{worker.name} gets no more steps; {worker.busy} run there\n"
                )
        raise RpcError(Code.NOT_FOUND, f"no worker {name} is connected")

    return {
        _LIST: answering(lambda _: shown(fleet)),
        _WHY: answering(why),
        _DRAIN: answering(drain),
    }


def shown(fleet: Fleet) -> ShownFleet:
    """Return the fleet as people see it, in the order of names."""
    workers = [_shown_worker(worker) for worker in fleet.connected]
    here = {worker.address for worker in workers}
    workers += [
        ShownWorker(name=address, address=address, state=f"away: {reason}")
        for address, reason in fleet.reasons.items()
        if address not in here
    ]
    return ShownFleet(workers=tuple(sorted(workers, key=lambda worker: worker.name)))


def _shown_worker(worker: Worker) -> ShownWorker:
    state = "draining" if worker.is_leaving else "ready"
    if not worker.is_well:
        state = f"aside: {worker.health.reason}"
    now = time.monotonic()
    return ShownWorker(
        name=worker.name,
        address=worker.address,
        state=state,
        slots=worker.hello.slots,
        platforms=tuple(str(platform) for platform in worker.hello.platforms),
        version=worker.hello.version,
        steps=tuple(
            ShownStep(
                step=one.step,
                seconds=round(now - one.began, 1),
                pause=one.pause,
                is_heard=is_heard,
            )
            for is_heard, steps in ((False, worker.running), (True, worker.heard))
            for one in steps
        ),
    )


async def list_workers(root: str) -> ShownFleet:
    """Return the fleet of the coordinator with the store at *root*.

    Raises:
        EnvironmentFault: there is none.
    """
    return await _ask(root, _LIST, "", ShownFleet)


async def why(root: str, step: str) -> str:
    """Return the costs of each worker for the last steps with *step* in their names.

    Raises:
        UserError: there is none; EnvironmentFault: as `list_workers`.
    """
    return (await _ask(root, _WHY, step, ControlText)).text


async def drain(root: str, worker: str) -> str:
    """Give a worker no more steps, and return a word about it.

    Raises:
        UserError: it is not there; EnvironmentFault: as `list_workers`.
    """
    return (await _ask(root, _DRAIN, worker, ControlText)).text


async def _ask(root: str, method: str, name: str, kind: type[A]) -> A:
    address = control_address(root)
    try:
        channel = await Channel.connect(address)
    except OSError as error:
        raise EnvironmentFault(
            f"no coordinator answers at {address}",
            hints=["start one with pybuild cluster up, or name its store with --root"],
        ) from error
    try:
        return read(kind, await channel.unary(method, wire.write(ControlQuery(name=name))))
    except RpcError as error:
        if error.code is Code.NOT_FOUND:
            raise UserError(error.message) from error
        raise EnvironmentFault(f"{address}: {error}") from error
    finally:
        await channel.close()
