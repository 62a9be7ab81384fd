"""The ssh agents that a build server may use: each behind a filter of ours, unless it is raw [SEC-4]."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from pybuild.executor.sources.agents import NAME, AgentSocket, SshAgent
from pybuild.executor.workers.workers import Workers


class _Places:
    """Makes directories for sockets, as a store would."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._made = 0

    def scratch(self, label: str = "") -> str:
        self._made += 1
        return os.path.join(self._top, f"{label}{self._made}")

    def discard(self, path: str) -> None:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def agent_sockets(agents: Sequence[SshAgent]) -> AsyncGenerator[dict[str, str]]:
    """Give the path of a socket for each of *agents*, by its id; they are there in the context.

    Raises:
        UserError: a key cannot be used. EnvironmentFault: there is no agent to be had.
    """
    async with AsyncExitStack() as stack:
        top = stack.enter_context(tempfile.TemporaryDirectory(prefix="pybuild-ssh-"))
        workers = Workers()
        stack.push_async_callback(workers.close)
        paths: dict[str, str] = {}
        for agent in agents:
            served = AgentSocket(agent, _Places(top), workers)
            stack.push_async_callback(served.close)
            paths[agent.id] = f"/proc/self/fd/{await served.directory()}/{NAME}"
        yield paths
