"""The containers that a client's frontend has made in one build [6]."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from pybuild.buildkit.llb.containers import read_container
from pybuild.buildkit.pb.gateway import NewContainerRequest
from pybuild.engine.host import native_platform
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import ExecOp, ScratchSource, Vertex, VertexMeta
from pybuild.model.snapshot import Snapshot
from pybuild.net.grpc.status import Code, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.daemon.builds.scope import Scope
    from pybuild.daemon.frontend.lazytree import LazyTree
    from pybuild.executor.steps.container import StepContainer

MOST_CONTAINERS = 64
_PATH_OF = {
    "windows": r"PATH=c:\Windows\System32;c:\Windows;C:\Windows\System32\WindowsPowerShell\v1.0"
}


@dataclass(frozen=True, slots=True)
class HeldContainer:
    """One of them.

    Attributes:
        targets: of its mounts, in the order in which the client has them.
        env: variables that its processes have, unless they bring their own.
    """

    container: StepContainer
    targets: tuple[str, ...]
    env: tuple[str, ...]
    _stack: AsyncExitStack

    def directories(self, index: int) -> Sequence[str]:
        """Return the directories of the tree of the mount *index*, base first.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        if not 0 <= index < len(self.targets):
            raise UserError(f"mount index {index} is out of bounds ({len(self.targets)} available)")
        return self.container.directories(self.targets[index])

    async def close(self) -> bool:
        """End its processes and discard what they wrote; return whether there were any."""
        ended = await self.container.close()
        await self._stack.aclose()
        return ended


class BuildContainers:
    """Containers by the client's ids, until the build ends."""

    def __init__(self) -> None:
        self._held: dict[str, HeldContainer | None] = {}

    def find(self, id: str) -> HeldContainer:
        """Return a container.

        Raises:
            RpcError: there is none.
        """
        held = self._held.get(id)
        if held is None:
            raise RpcError(Code.NOT_FOUND, f'container "{id}" previously released or not created')
        return held

    async def create(
        self, scope: Scope, request: NewContainerRequest, tree: Callable[[str], LazyTree]
    ) -> None:
        """Make a container; its first process is yet to come.

        Args:
            tree: finds a reference.

        Raises:
            RpcError, PybuildError: it cannot be.
        """
        id = request.ContainerID
        if not id:
            raise RpcError(Code.INVALID_ARGUMENT, "ContainerID required")
        if id in self._held:
            raise RpcError(Code.ALREADY_EXISTS, f"Container {id} already exists")
        if len(self._held) >= MOST_CONTAINERS:
            raise UserError(
                f"a build has at most {MOST_CONTAINERS} containers", hints=("release some",)
            )
        self._held[id] = None
        try:
            self._held[id] = await _made(scope, request, tree)
        except BaseException:
            del self._held[id]
            raise

    async def release(self, id: str) -> None:
        """Remove a container.

        Raises:
            RpcError: there is none, or processes of it had to be ended.
        """
        held = self._held.get(id)
        if held is None:
            raise RpcError(Code.UNKNOWN, f"container details for {id} not found")
        del self._held[id]
        if await held.close():
            raise RpcError(Code.CANCELLED, "context canceled")

    async def close(self) -> None:
        """Remove all."""
        held, self._held = [one for one in self._held.values() if one is not None], {}
        await asyncio.gather(*(one.close() for one in held))


async def _made(
    scope: Scope, request: NewContainerRequest, tree: Callable[[str], LazyTree]
) -> HeldContainer:
    op, ids = read_container(request, native_platform())
    vertex = scope.owned(Vertex(op, _inputs(ids), VertexMeta(name="container")))
    assert isinstance(vertex.op, ExecOp)
    trees = [tree(id) if id else None for id in ids]
    results = [await one.snapshot() if one is not None else Snapshot() for one in trees]
    stack = AsyncExitStack()
    try:
        made = scope.container(vertex, vertex.op, results)
        container = await stack.enter_async_context(made)
    except PybuildError:
        await stack.aclose()
        raise
    targets = tuple(_target(mount.dest) for mount in request.Mounts)
    system = request.platform.OS
    env = (_PATH_OF[system],) if system in _PATH_OF else ()
    return HeldContainer(container, targets, env, stack)


def _inputs(ids: Sequence[str]) -> tuple[Vertex, ...]:
    return tuple(Vertex(ScratchSource()) for _ in ids)


def _target(dest: str) -> str:
    from pybuild.frontend.lowering import paths

    return paths.join("/", dest)
