"""The processes that touch snapshots, as the rest of the engine uses them.

Two zygotes, each started when first needed: one forks steps and stays as small as it started,
because a fork costs what its parent has in memory; one forks calls and imports their modules ahead,
because a module costs more to import than to inherit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.executor.steps.spec import Connecting, StepExit, StepJoin, StepSpec, StepStart
from pybuild.executor.workers.bounded import AT_ONCE, bounded
from pybuild.executor.workers.job import Answer, Job, WorkerModule, job
from pybuild.executor.workers.launch import Ahead, default_pythonpath, error_of
from pybuild.executor.workers.process import ZygoteProcess, converse
from pybuild.executor.workers.runningjob import RunningJob
from pybuild.executor.workers.socketservice import SocketService
from pybuild.executor.zygote.faults import describe_os_error
from pybuild.executor.zygote.wire import RECORDER_FAILED
from pybuild.model.border import packed
from pybuild.model.errors import EnvironmentFault, InternalError, PybuildError, UserError

if TYPE_CHECKING:
    from pybuild.cache.space.budget import Budget
    from pybuild.executor.steps.ociruntimes import OciRuntime
    from pybuild.executor.zygote import sealing, socketcalls
else:
    sealing = WorkerModule("pybuild.executor.zygote.sealing")
    socketcalls = WorkerModule("pybuild.executor.zygote.socketcalls")

_SIGTERM, _SIGKILL = 15, 9
_DRAIN_SECONDS = 1.0

OnOutput = Callable[[str, bytes], None]
OnProgress = Callable[[int], None]
OnMessage = Callable[[Sequence[Any]], bool]


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
        running = running or _begin(zygote, work.function, fds, request)
        async with bounded(self.budget, writes):
            return await _answer(zygote, running, work, stay=stay, on_progress=on_progress)

    async def run_step(
        self,
        spec: StepSpec,
        on_output: OnOutput,
        *,
        stdio: tuple[int, int, int] | None = None,
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
        messages: list[Sequence[Any]] = []
        warnings: list[str] = []

        def on_message(message: Sequence[Any]) -> bool:
            if message[0] != "warning":
                messages.append(message)
                if message[0] == "ready":
                    if on_ready is not None:
                        on_ready()
                    _compare_descriptors(message[1:], handed_over)
                    if "listener" in message:
                        answer = partial(_call_beside, zygote, job(socketcalls.answer_all))
                        services.append(SocketService(handed_over.pop(0), answer))
            else:
                warnings.append(message[1])
                on_output("stderr", f"warning: {message[1]}\n".encode())
            return False

        services: list[SocketService] = []
        handed_over: list[int] = []
        streams: list[_Stream] = []
        write_ends: list[int] = []
        try:
            try:
                for name in ("stdout", "stderr") if stdio is None else ():
                    read_end, write_end = os.pipe()
                    streams.append(_Stream(name, read_end, on_output))
                    write_ends.append(write_end)
                handed = write_ends if stdio is None else (stdio[1], stdio[2], stdio[0])
                start = spec.start() if beside is None else StepJoin(beside.job.id)
                step = _begin(zygote, start, handed, packed(spec))
            finally:
                for fd in write_ends:
                    os.close(fd)
            if on_start is not None:
                on_start(RunningStep(zygote, step))
            async with bounded(self.budget, spec.upper if beside is None else ""):
                ended = await _attend(
                    zygote,
                    step,
                    on_message,
                    grace=self._grace_s,
                    watched=[stream.ended for stream in streams],
                    on_descriptor=handed_over.append,
                )
                if handed_over:
                    await _call_beside(zygote, job(sealing.seal), *handed_over)
            if streams:
                await asyncio.wait([s.ended for s in streams], timeout=_DRAIN_SECONDS)
            for stream in streams:
                if stream.ended.done():
                    stream.ended.result()
        finally:
            for stream in streams:
                stream.close()
            for fd in handed_over:
                os.close(fd)
            for service in services:
                await service.close()
        if not messages:
            raise EnvironmentFault(
                f"the step's process ended while it was set up (status {ended.status})"
                + zygote.last_words()
            )
        for message in messages:
            if message[0] == "fault":
                raise error_of(message)
        if ended.status == RECORDER_FAILED:
            raise InternalError("the recorder of owners failed" + zygote.last_words())
        return ended._replace(warnings=tuple(warnings))

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


class _Stream:
    """One of a step's output pipes, read as it comes."""

    def __init__(self, name: str, fd: int, on_output: OnOutput) -> None:
        self._name = name
        self._fd = fd
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
            if data:
                self._on_output(self._name, data)
                return
        except BlockingIOError:
            return
        except Exception as error:  # noqa: BLE001 - the caller's callback; run_step raises it
            self.ended.set_exception(error)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if not self.ended.done():
            self.ended.set_result(None)
        elif not self.ended.cancelled():
            self.ended.exception()  # run_step has raised it, or something that came before it


def _begin(
    zygote: ZygoteProcess, start: StepStart | StepJoin | str, fds: Sequence[int], request: Any
) -> RunningJob:
    try:
        return zygote.begin(start, fds, request)
    except OSError as error:
        raise EnvironmentFault(
            describe_os_error(error, "cannot start a worker"),
            hints=("raise the limit on open files (ulimit -n)",),
        ) from error


def _compare_descriptors(names: Sequence[str], fds: Sequence[int]) -> None:
    """Raise EnvironmentFault where a descriptor that a message names did not come with it."""
    if len(names) != len(fds):
        raise EnvironmentFault(
            f"cannot take over what a step is watched by ({', '.join(names)}): too many open files",
            hints=("raise the limit on open files (ulimit -n)",),
        )


async def _call_beside(zygote: ZygoteProcess, work: Job[None], *fds: int) -> None:
    """Do *work* in a child of the zygote that steps are forked from.

    Raises:
        PybuildError: it failed, or ended without a result.
    """
    # Nothing is to be imported ahead: each step is a copy of what the zygote has in memory.
    running = _begin(zygote, "", fds, work.request())
    await _answer(zygote, running, work)


async def _answer(
    zygote: ZygoteProcess,
    running: RunningJob,
    work: Job[Answer],
    *,
    stay: bool = False,
    on_progress: OnProgress | None = None,
) -> Answer:
    """Attend a call and return its answer; one that ends without having given any has failed."""
    outcome: list[Sequence[Any]] = []

    def on_message(message: Sequence[Any]) -> bool:
        if message[0] != "progress":
            outcome.append(message)
            return message[0] == "result" and bool(message[2])
        if on_progress is not None:
            on_progress(message[1])
        return False

    if stay:
        ended = await _ask(zygote, running, on_message)
    else:
        ended = await _attend(zygote, running, on_message, grace=0.0)
    if not outcome:
        assert ended is not None  # who stays has said something
        raise EnvironmentFault(
            f"worker for {work.function} ended without a result (status {ended.status})"
            + zygote.last_words(),
            hints=("free memory: the kernel may have killed it",)
            if ended.status == 128 + _SIGKILL
            else (),
        )
    if outcome[0][0] == "fault":
        raise error_of(outcome[0])
    return work.answer(outcome[0][1])


async def _ask(zygote: ZygoteProcess, job: RunningJob, on_message: OnMessage) -> StepExit | None:
    """Have a worker do one call; return how it ended, or None when it waits for another one."""
    try:
        if await converse(job, on_message):
            zygote.kept.keep(job)
            return None
        await asyncio.wait({job.gone})
    except BaseException:
        await _end(zygote, job, 0.0)
        job.channel.close()
        raise
    job.channel.close()
    return job.gone.result()


async def _attend(
    zygote: ZygoteProcess,
    job: RunningJob,
    on_message: OnMessage,
    *,
    grace: float,
    watched: Sequence[asyncio.Future[Any]] = (),
    on_descriptor: Callable[[int], None] | None = None,
) -> StepExit:
    """Talk with a job until it is gone, whatever happens to us meanwhile.

    Args:
        watched: whose failure ends the job, too.
        on_descriptor: as in `converse`.
    """
    talk = asyncio.create_task(converse(job, on_message, on_descriptor))
    try:
        waiting: set[asyncio.Future[Any]] = {talk, job.gone, *watched}
        while not (talk.done() and job.gone.done()):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        return job.gone.result()
    except BaseException as error:
        await _end(zygote, job, 0.0 if error.args == (AT_ONCE,) else grace)
        raise
    finally:
        talk.cancel()
        await _wait_through(talk, None)
        job.channel.close()


async def _end(zygote: ZygoteProcess, job: RunningJob, grace: float) -> None:
    """End a job and return when it is gone."""
    if grace:
        zygote.kill(job, _SIGTERM)
        await _wait_through(job.gone, grace)
    zygote.kill(job, _SIGKILL)
    await _wait_through(job.gone, None)
    if not job.gone.cancelled():
        job.gone.exception()  # it was looked at


async def _wait_through(future: asyncio.Future[Any], timeout: float | None) -> None:
    """Wait until *future* is done or the time is up, however often we are cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while not future.done():
        left = None if deadline is None else deadline - loop.time()
        if left is not None and left <= 0:
            return
        try:
            await asyncio.wait({future}, timeout=left)
        except asyncio.CancelledError:
            continue  # The one that brought us here is raised in the end.
