"""Jobs of a zygote, attended until they are gone, whatever happens to us meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pybuild.executor.workers.bounded import AT_ONCE
from pybuild.executor.workers.job import Answer, Job
from pybuild.executor.workers.launch import error_of
from pybuild.executor.workers.process import ZygoteProcess, converse
from pybuild.executor.zygote.faults import describe_os_error
from pybuild.model.errors import EnvironmentFault

if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepExit, StepJoin, StepStart
    from pybuild.executor.workers.job import RunningJob

_SIGTERM, _SIGKILL = 15, 9

OnProgress = Callable[[int], None]
OnMessage = Callable[[Sequence[Any]], bool]


def begin(
    zygote: ZygoteProcess, start: StepStart | StepJoin | str, fds: Sequence[int], request: Any
) -> RunningJob:
    """Begin a job in a child of the zygote.

    Raises:
        EnvironmentFault: no process can be had, or no descriptor.
    """
    try:
        return zygote.begin(start, fds, request)
    except OSError as error:
        raise EnvironmentFault(
            describe_os_error(error, "cannot start a worker"),
            hints=("raise the limit on open files (ulimit -n)",),
        ) from error


async def call_beside(zygote: ZygoteProcess, work: Job[None], *fds: int) -> None:
    """Do *work* in a child of the zygote that steps are forked from.

    Raises:
        PybuildError: it failed, or ended without a result.
    """
    # Nothing is to be imported ahead: each step is a copy of what the zygote has in memory.
    running = begin(zygote, "", fds, work.request())
    await attend_call(zygote, running, work)


async def attend_call(
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
        ended = await attend(zygote, running, on_message, grace=0.0)
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


async def attend(
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
