"""The agent beside a worker: by it the engine's scheduler knows the worker, and claims come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pybuild.cache.store import Store
from pybuild.cluster import wire
from pybuild.cluster.child import LineChild, engine_command
from pybuild.cluster.claims import StepClaim
from pybuild.cluster.stepruns import StepRuns


class AgentKeeper:
    """Keeps the agent's process, and answers its claims from the run table.

    Steps go on without it: when it ends, as it does when its scheduler ends, it is started again.

    Args:
        name: the address by which coordinators reach this worker.
        tls: the words by which the engine's processes get their certificates.
        store: has its directory, and deletes it when we are gone.
    """

    def __init__(
        self,
        runs: StepRuns,
        scheduler: str,
        name: str,
        slots: int,
        tls: Sequence[str],
        store: Store,
    ) -> None:
        runs.name = name
        self._runs = runs
        self._store = store
        self._scratch = store.scratch("agent")
        words = ("--scheduler", scheduler, "--name", name, "--slots", str(slots), *tls)
        command = engine_command("agent", *words, "--scratch", self._scratch)
        self._child = LineChild(command, self._hear)
        self._answers: set[asyncio.Task[None]] = set()
        self.open = self._child.open

    async def close(self) -> None:
        """End the agent."""
        await self._child.close()
        self._drop()
        self._store.discard(self._scratch)

    def _hear(self, message: dict[str, Any]) -> None:
        if not message:
            self._drop()
        elif "claim" in message:
            task = asyncio.create_task(self._answer(message["id"], message["claim"]))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    def _drop(self) -> None:
        for task in self._answers:
            task.cancel()

    async def _answer(self, number: int, text: str) -> None:
        try:
            end = await self._runs.claim(wire.read(StepClaim, text.encode()))
            said = wire.write(end).decode()
        except wire.Unreadable:
            said = "{}"  # it is no coordinator's
        self._child.say(id=number, end=said)
