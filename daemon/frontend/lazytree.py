"""A tree that was promised to a client and may not exist yet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from pybuild.buildkit.pb.ops import Definition
from pybuild.model.errors import UserError
from pybuild.model.ops import Vertex
from pybuild.model.snapshot import Snapshot

Solve = Callable[[Vertex], Awaitable[Snapshot]]


class LazyTree:
    """A tree that a client may request; made when something needs it, once.

    Args:
        write: gives its definition, for clients that speak LLB.
    """

    def __init__(
        self, vertex: Vertex, solve: Solve, write: Callable[[], Definition] | None = None
    ) -> None:
        self.id = os.urandom(12).hex()
        self.vertex = vertex
        self._write = write
        self._solve = solve
        self._task: asyncio.Task[Snapshot] | None = None

    def definition(self) -> Definition | None:
        """Return the definition of the tree; None where it cannot be written as LLB."""
        if self._write is None:
            return None
        try:
            written = self._write()
        except UserError:
            self._write = None
            return None
        self._write = lambda: written
        return written

    async def snapshot(self) -> Snapshot:
        """Return the tree.

        Raises:
            PybuildError: it cannot be made; the same for everybody who asks.
        """
        if self._task is None:
            self._task = asyncio.ensure_future(self._solve(self.vertex))
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        self._write = None  # it has the client's definition, and we may be part of a circle
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
