"""The processes that touch snapshots, as the rest of the engine uses them.

Two zygotes, each started when first needed: one forks steps and stays as small as it started,
because a fork costs what its parent has in memory; one forks calls and imports their modules ahead,
because a module costs more to import than to inherit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pybuild.executor.steps.spec import Connecting, StepExit, StepJoin, StepSpec
from pybuild.executor.workers.attending import OnProgress, attend, attend_call, begin
from pybuild.executor.workers.bounded import bounded
from pybuild.executor.workers.job import Answer, Job, RunningJob
from pybuild.executor.workers.launch import Ahead, default_pythonpath
from pybuild.executor.workers.process import ZygoteProcess
from pybuild.executor.workers.stepprocess import (
    OnOutput,
    StandardStreams,
    StepMessages,
    StepStreams,
)
from pybuild.model.border import packed
from pybuild.model.errors import PybuildError, UserError

if TYPE_CHECKING:
    from pybuild.cache.space.budget import Budget
    from pybuild.executor.steps.ociruntimes import OciRuntime


class RunningStep:
    """A step that was asked for, as `Workers.run_step` hands it out."""

    def __init__(self, zygote: ZygoteProcess, job: RunningJob) -> None:
        self.zygote = zygote
        self.job = job

    def signal(self, number: int) -> None:
        """Send a signal to its process; one that is meant to end a step's first process does so
        even if that does not catch it."""
        self.zygote.kill(self.job, number)


class Workers:
    """Runs steps and calls. One per engine; use from one event loop at a time.

    Args:
        rootless: True: in a user namespace even as root; False: never; None: when not root.
        pythonpath: directories that workers import from; default: this process's.
        runtime: the OCI runtime that runs steps, by name or path; empty: our own sandbox.
        ahead: zygotes that were started already.
        grace_s: how long a step that is cancelled may clean up before it is killed.

    Attributes:
        budget: for what jobs write, where the store has a ceiling.
    """

    budget: Budget | None = None

    def __init__(
        self,
        *,
        rootless: bool | None = None,
        pythonpath: Sequence[str] | None = None,
        runtime: str = "",
        ahead: Ahead | None = None,
        grace_s: float = 0.5,
    ) -> None:
        self._ahead = ahead
        self._grace_s = grace_s
        self._rootless = rootless
        self._runtime_name = runtime
        self._runtime: OciRuntime | None = None
        self._pythonpath = list(default_pythonpath() if pythonpath is None else pythonpath)
        self._zygotes: dict[str, asyncio.Task[ZygoteProcess] | ZygoteProcess] = {}

    async def isolation(self) -> str:
        """Return the rung of isolation: ``root``, ``userns``, ``userns-single`` or ``chroot``.

        Raises:
            EnvironmentFault: this machine allows none.
        """
        return (await self._zygote("call")).rung

    async def isolation_detail(self) -> str:
        """Return why the rung is not a better one, or ""."""
        return (await self._zygote("call")).rung_detail

    async def runtime(self) -> OciRuntime | None:
        """Return the OCI runtime that runs steps, None for our own sandbox.

        Raises:
            EnvironmentFault: it is not there or does not work.
        """
        if self._runtime is None and self._runtime_name:
            from pybuild.executor.steps.ociruntimes import find_runtime

            self._runtime = await asyncio.to_thread(find_runtime, self._runtime_name)
        return self._runtime

    async def call(
        self,
        work: Job[Answer],
        *,
        fds: Sequence[int] = (),
        on_progress: OnProgress | None = None,
        stay: bool = False,
        writes: str = "",
    ) -> Answer:
        """Do *work* in a worker and return its answer; *fds* stay the caller's.

        Cancelling kills the worker and waits for its end.

        Args:
            stay: the function is short and leaves nothing behind in its process, which may then be
                one that did another such call, and go on to do the next; not with *fds*.
            writes: the place in the store that it writes to, if it does.

        Raises:
            UserError, EnvironmentFault, InternalError: as the function raised it (`Fault`, the
                model's errors); an OSError becomes an EnvironmentFault.
        """
        zygote = await self._zygote("call")
        request = work.request(stay=stay)
        running = zygote.kept.take(request) if stay else None
        running = running or begin(zygote, work.function, fds, request)
        async with bounded(self.budget, writes):
            return await attend_call(zygote, running, work, stay=stay, on_progress=on_progress)

    async def run_step(
        self,
        spec: StepSpec,
        on_output: OnOutput,
        *,
        stdio: StandardStreams | None = None,
        on_start: Callable[[RunningStep], None] | None = None,
        on_ready: Callable[[], None] | None = None,
        beside: RunningStep | None = None,
    ) -> StepExit:
        """Run a step in the sandbox; *on_output* gets ``"stdout" | "stderr"`` and bytes.

        With *stdio*, the step has these three descriptors of the caller as its standard streams,
        and *on_output* gets nothing of its own. Without, its standard input is empty [RUN-2].
        What the step has to go on without is said first, as a line of ``"stderr"``.
        *on_start* is given the step as soon as it is asked for, *on_ready* called when nothing but
        its program is missing.

        With *beside*, its process is a further one of that step, in the same tree and namespaces:
        what *spec* says of mounts and limits is nothing then.

        Returns when the step's whole pid namespace is gone and all of its output was handed on.
        Cancelling sends SIGTERM, then SIGKILL half a second later, and raises only when the
        namespace is gone.

        Raises:
            UserError: the step cannot be set up as asked (no such user, mount target a file ...).
            EnvironmentFault: the machine refuses something that the sandbox needs.
        """
        runtime = await self.runtime()
        if beside is not None and runtime is not None:
            raise UserError(f"no second process can be started in a container of {runtime.name}")
        zygote = beside.zygote if beside is not None else await self._zygote("exec")
        self._foresee("call")
        if runtime is not None:
            from pybuild.executor.steps import ocibundle

            spec = spec._replace(oci=ocibundle.order(spec, runtime, zygote.rung))
        messages = StepMessages(zygote, on_output, on_ready)
        streams = StepStreams(on_output)
        try:
            with streams.handed(stdio) as descriptors:
                start = spec.start() if beside is None else StepJoin(beside.job.id)
                step = begin(zygote, start, descriptors, packed(spec))
            if on_start is not None:
                on_start(RunningStep(zygote, step))
            async with bounded(self.budget, spec.upper if beside is None else ""):
                ended = await attend(
                    zygote,
                    step,
                    messages.take,
                    grace=self._grace_s,
                    watched=streams.ended,
                    on_descriptor=messages.descriptors.append,
                )
                await messages.seal()
            await streams.drain()
        finally:
            streams.close()
            await messages.close()
        return messages.check(ended)

    async def connect_ahead(self, way: Connecting, steps: int) -> None:
        """Have network namespaces made for so many steps that are to come."""
        (await self._zygote("exec")).connect_ahead(way, steps)

    def rest(self) -> None:
        """Let processes end that wait for another job: the build that they did it for is over."""
        for zygote in self._zygotes.values():
            if isinstance(zygote, ZygoteProcess):
                zygote.rest()

    async def close(self) -> None:
        """End both zygotes with all their jobs. The next use starts new ones."""
        zygotes, self._zygotes = list(self._zygotes.values()), {}
        await asyncio.gather(*map(_stop, zygotes))

    async def _zygote(self, kind: str) -> ZygoteProcess:
        """Return the living zygote for *kind*, starting it once however many ask for it."""
        known = self._zygotes.get(kind)
        if isinstance(known, ZygoteProcess):
            if known.alive:
                known.rebind()
                return known
            await known.stop()
            known = self._zygotes.get(kind)
            if isinstance(known, ZygoteProcess) and not known.alive:
                known = None
        if isinstance(known, ZygoteProcess):
            return known
        if known is None or known.cancelled():
            known = asyncio.create_task(self._start(kind))
            self._zygotes[kind] = known
        try:
            zygote = await asyncio.shield(known)
        except PybuildError:
            if self._zygotes.get(kind) is known:
                del self._zygotes[kind]
            raise
        if self._zygotes.get(kind) is known:
            self._zygotes[kind] = zygote
        return zygote

    def _foresee(self, kind: str) -> None:
        """Start the zygote that is going to be asked for: what a step has made is copied or packed.

        A step is rarely too short for that, so nobody waits for it then.
        """
        if kind not in self._zygotes:
            task = asyncio.create_task(self._start(kind))
            self._zygotes[kind] = task
            # Who asks for it hears what went wrong; if nobody does, nobody is to.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _start(self, kind: str) -> ZygoteProcess:
        zygote = ZygoteProcess(
            self._rootless,
            self._pythonpath,
            shielded=kind == "exec",
            launched=self._ahead.take(kind) if self._ahead else None,
        )
        await zygote.start()
        return zygote


async def _stop(zygote: asyncio.Task[ZygoteProcess] | ZygoteProcess) -> None:
    if isinstance(zygote, asyncio.Task):
        if zygote.cancelled():  # with the event loop that it was begun in
            return
        try:
            zygote = await zygote
        except PybuildError:
            return
    await zygote.stop()
