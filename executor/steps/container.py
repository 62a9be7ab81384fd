"""A step's tree and mounts in which somebody starts processes, one after the other.

The first one is the first of its namespaces: when it ends, so do the others, and no more can be started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from pybuild.executor.steps import execop
from pybuild.executor.steps.spec import StepExit, StepMountType, StepSpec
from pybuild.executor.workers.workers import RunningStep, Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import Cancelled, UserError
from pybuild.model.ops import Mount, NetworkMode, SecurityMode

_SIGKILL = 9
_UNREADABLE = "only trees and cache mounts can be read from outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """A program to be run in a container.

    Attributes:
        env: ``NAME=value``; a later one wins.
        secrets: those that go into its environment.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    secrets: tuple[Mount, ...] = ()
    cwd: str = "/"
    user: str = ""
    security: SecurityMode = SecurityMode.SANDBOX


class StepContainer:
    """Runs processes in what was made of a `StepSpec`.

    Args:
        allow: entitlements.
        secrets: by id.
    """

    def __init__(
        self, workers: Workers, spec: StepSpec, allow: frozenset[str], secrets: execop.Secrets
    ) -> None:
        self._workers = workers
        self._spec = spec
        self._allow = allow
        self._secrets = secrets
        self._first: asyncio.Future[RunningStep] | None = None
        self._running: dict[asyncio.Task[StepExit], list[RunningStep]] = {}
        self._is_closed = False

    @property
    def has_begun(self) -> bool:
        """Whether its first process was asked for."""
        return self._first is not None

    def directories(self, target: str) -> Sequence[str]:
        """Return the directories of the tree that is mounted at *target*, base first.

        Raises:
            UserError: it is of another kind, or there is none.
        """
        spec = self._spec
        if target == "/":
            return (*spec.lowers, spec.upper)
        for mount in spec.mounts:
            if mount.target == target and mount.type == StepMountType.BIND_OVERLAY:
                return (*mount.lowers, mount.upper) if mount.upper else mount.lowers
            if mount.target == target and mount.exclusive:
                return (mount.source,)
        raise UserError(f'the mount "{target}": {_UNREADABLE}')

    async def run(
        self,
        settings: ProcessSettings,
        stdio: tuple[int, int, int],
        on_ready: Callable[[RunningStep], None],
    ) -> StepExit:
        """Run a process on three descriptors, which the caller may close once *on_ready* was called.

        Raises:
            PybuildError: it could not be started. Cancelled: the container was closed.
        """
        if self._is_closed:
            raise UserError("the container has ended")
        steps: list[RunningStep] = []
        beside, ready = self._first, asyncio.get_running_loop().create_future()
        if beside is None:
            self._first = ready
        task = asyncio.ensure_future(self._run(settings, stdio, beside, steps, ready))

        def tell(done: asyncio.Future[RunningStep]) -> None:
            if not done.cancelled():
                on_ready(done.result())

        ready.add_done_callback(tell)
        self._running[task] = steps
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and self._is_closed:
                raise Cancelled("context canceled") from None
            if not task.done():
                self._kill(task)
                await asyncio.wait({task})
            raise
        finally:
            self._running.pop(task, None)

    async def _run(
        self,
        settings: ProcessSettings,
        stdio: tuple[int, int, int],
        beside: asyncio.Future[RunningStep] | None,
        steps: list[RunningStep],
        ready: asyncio.Future[RunningStep],
    ) -> StepExit:
        def is_ready() -> None:
            if not ready.done():
                ready.set_result(steps[0])

        try:
            spec = await self._spec_of(settings)
            if beside is not None:
                await asyncio.wait({beside})
                if beside.cancelled():
                    raise UserError("the container's first process could not be started")
            return await self._workers.run_step(
                spec,
                _say_nothing,
                stdio=stdio,
                on_start=steps.append,
                on_ready=is_ready,
                beside=beside.result() if beside is not None else None,
            )
        finally:
            ready.cancel()

    def _kill(self, task: asyncio.Task[StepExit]) -> None:
        for step in self._running[task]:
            step.signal(_SIGKILL)  # who is cancelled otherwise has time to clean up
        task.cancel()

    async def _spec_of(self, settings: ProcessSettings) -> StepSpec:
        network = NetworkMode.HOST if self._spec.network == "host" else NetworkMode.DEFAULT
        execop.check_allowed(self._allow, network, settings.security)
        secrets: list[str] = []
        for mount in settings.secrets:
            data = await execop.looked_up(
                self._secrets, partial(execop.read_secret, mount, self._secrets)
            )
            if data is not None:
                secrets.append(execop.secret_env(mount, data))
        return self._spec._replace(
            args=settings.args,
            env=(*self._spec.env, *settings.env, *secrets),
            cwd=settings.cwd,
            user=settings.user,
            security=settings.security.value,
        )

    async def close(self) -> bool:
        """End all processes; return whether there were any. Idempotent."""
        self._is_closed = True
        running = list(self._running)
        for task in running:
            self._kill(task)
        if running:
            await asyncio.wait(running)
        return bool(running)


def _say_nothing(_stream: str, _data: bytes) -> None:
    """Take warnings about what a process has to go on without: nobody reads them."""
