"""Carries out what the state machine says: the only module of the room that awaits work.

Who owns which task: all work is done in tasks of the `Solver`, because two jobs may wait for one.
`Solver.solve` does not return before every task that uses its runner has ended, so no task ever
outlives the last job that it serves, and a runner is never used after its `solve`. A job that is
cancelled or fails while another one waits for a step that it began therefore stays until that step
has ended [KEY-14]; its failure and its victims are emitted at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.model.contents import MissingSource
from pybuild.model.digest import Digest
from pybuild.model.errors import (
    DeltaGone,
    EnvironmentFault,
    InternalError,
    PybuildError,
    UserError,
    unwrap,
)
from pybuild.model.events import (
    RUN_TIMES,
    BuildWarning,
    Emit,
    Event,
    RunTimes,
)
from pybuild.model.ops import DiffOp, ExecOp, FileOp, LocalSource, MergeOp, PassOp, Vertex
from pybuild.solver import messages
from pybuild.solver.budgets import Budgets
from pybuild.solver.claims import SingleFlight
from pybuild.solver.messages import (
    Began,
    Cancel,
    DigestContent,
    Digested,
    Failed,
    Identified,
    Identify,
    InputGone,
    Instruction,
    JobAdded,
    JobCancelled,
    JobDone,
    JobFailed,
    Phase,
    Probe,
    Probed,
    Ran,
    Run,
    Save,
    SaveAlias,
    SaveSeconds,
    Tell,
)
from pybuild.solver.queue import Queue, Weights
from pybuild.solver.runner import RUN_KEY, Record, RecordStore, Runner
from pybuild.solver.scribe import Scribe
from pybuild.solver.solution import Known, Progress, Solution
from pybuild.solver.state import State
from pybuild.solver.telling import event_of, waiting
from pybuild.solver.turns import Turns

if TYPE_CHECKING:
    from pybuild.model.clock import Clock

# When what runs first has started, and takes longer than the store does to get ready: then that is
# done meanwhile. Before, it would keep the interpreter from starting the rest.
_PREPARE_AFTER_S = 0.03
_PATIENCE = 4
"""So many deltas may turn out to be gone, one by one; then their whole source is done without."""

OnMiss = Callable[[Vertex, Run], None]
"""Told of a vertex that is about to run, and may raise to refuse that."""


def goes_on(_vertex: Vertex, _run: Run) -> None:
    """Nobody wants to know why something runs."""


class _Build:
    """One call of `Solver.solve`.

    Attributes:
        left: done when the state knows nothing of it any more.
    """

    def __init__(
        self,
        targets: tuple[Vertex, ...],
        runner: Runner,
        emit: Emit,
        weights: Weights,
        progress: Progress,
        missed: OnMiss,
    ) -> None:
        self.targets = targets
        self.runner = runner
        self.emit = emit
        self.weights = weights
        self.progress = progress
        self.missed = missed
        self.deaf = False
        self.losses = 0
        loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Solution] = loop.create_future()
        self.left: asyncio.Future[None] = loop.create_future()

    def say(self, event: Event) -> None:
        """Emit; a listener that fails fails its own build and is not called again."""
        if self.deaf:
            return
        try:
            self.emit(event)
        except Exception as error:  # noqa: BLE001  a listener is somebody else's code
            self.deaf = True
            self.fail(error)

    def succeed(self, solution: Solution) -> None:
        if not self.outcome.done():
            self.outcome.set_result(solution)

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def leave(self) -> None:
        if not self.left.done():
            self.left.set_result(None)


class Solver:
    """Solves vertices for any number of jobs at once, on one event loop.

    Args:
        store: its methods are called in threads.
        budgets: or just the number of steps at once; 0 is the machine's own.
    """

    def __init__(self, store: RecordStore, clock: Clock, budgets: Budgets | int = 0) -> None:
        self._store = store
        self._clock = clock
        self._budgets = Budgets.of_machine(budgets) if isinstance(budgets, int) else budgets
        self._state = State()
        self._scribe = Scribe(partial(self._warn, "cannot store a result"))
        self._queues = {
            "steps": Queue(self._budgets.steps, is_ordered=True),
            "files": Queue(self._budgets.files),
            "sources": Queue(self._budgets.sources),
            "digests": Queue(self._budgets.digests),
        }
        self._builds: dict[str, _Build] = {}
        self._tasks: dict[int, tuple[asyncio.Task[None], str]] = {}
        turns = Turns(self._bring_about, self._collapse)
        self._feed = turns.feed
        self._flights = SingleFlight(store, self._scribe, turns)
        self._is_prepared = False
        self._names = (f"job-{number}" for number in itertools.count(1))

    def resize(self, steps: int) -> None:
        """Have so many steps at once, and at least as many file operations; 0: as at first."""
        for kind, places in self._budgets.of_fleet(steps).items():
            self._queues[kind].resize(places)

    async def solve(
        self,
        targets: Sequence[Vertex],
        runner: Runner,
        emit: Emit,
        progress: Progress | None = None,
        *,
        missed: OnMiss = goes_on,
    ) -> Solution:
        """Return the targets' results; whatever is not stored is run.

        Cancelling it stops, and waits for, everything that no other call wants.

        Args:
            progress: shows what is known until then.

        Raises:
            PybuildError: the first failure, with the lines of its vertex; what else was going
                has been stopped. A `UserError` if the definition refers to what is not there.
        """
        name = next(self._names)
        requested = tuple(targets)
        progress = progress or Progress(lambda: None)
        progress.begin(lambda: Known(*self._state.known(name)), self._scribe.all_written)
        weights = Weights(partial(self._weigh, requested))
        build = _Build(requested, runner, emit, weights, progress, missed)
        self._builds[name] = build
        try:
            self._feed(JobAdded(name, requested))
            return await build.outcome
        finally:
            if name in self._state.jobs:
                progress.end(Known(*self._state.known(name)))
            self._feed(JobCancelled(name))  # nothing, if it is done
            build.outcome.cancel()
            await self._end(name, build)

    async def _end(self, name: str, build: _Build) -> None:
        """Wait for all that uses the build's runner or keeps its results, come what may."""
        interrupted: asyncio.CancelledError | None = None
        while True:
            waiting: set[asyncio.Future[Any]] = {
                task
                for ticket, (task, job) in self._tasks.items()
                if job == name or not self._state.is_needed(ticket)
            }
            self._scribe.hurry()
            for task in (build.left, self._scribe.task, build.weights.task):
                if task is not None and not task.done():
                    waiting.add(task)
            if not waiting:
                break
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError as error:
                interrupted = error
        del self._builds[name]
        if interrupted is not None:
            raise interrupted

    # --- between the state and the tasks ----------------------------------------------------------

    def _bring_about(self, event: messages.Event) -> Iterator[None]:
        try:
            yield from self._state.pieces(event)
            for instruction in self._state.instructions():
                self._carry_out(instruction)
                yield
        except ValueError as error:
            if not isinstance(event, JobAdded):
                raise
            self._builds[event.job].fail(UserError(f"invalid definition: {error}"))
        finally:
            if isinstance(event, JobCancelled):
                self._builds[event.job].leave()

    def _carry_out(self, what: Instruction) -> None:
        match what:
            case Identify(ticket=ticket, job=job):
                self._spawn(ticket, job, self._identify(what))
            case Probe(ticket=ticket):
                self._spawn(ticket, "", self._probe(what))
            case DigestContent(ticket=ticket, job=job):
                self._spawn(ticket, job, self._digest(what))
            case Run(ticket=ticket, job=job):
                self._spawn(ticket, job, self._run(what))
            case Cancel(ticket=ticket):
                if ticket in self._tasks:
                    self._tasks[ticket][0].cancel()
            case Save():
                record = Record(
                    key=what.key,
                    snapshot=what.snapshot,
                    seconds=what.seconds,
                    created=what.created,
                    name=what.name,
                )
                self._scribe.put(what.key, partial(self._store.save, record, what.named_inputs))
            case SaveAlias(key=key, target=target):
                self._scribe.put(key, partial(self._store.save_alias, key, target))
            case SaveSeconds(vertex=vertex, seconds=seconds):
                self._scribe.put(vertex, partial(self._store.save_seconds, vertex, seconds))
            case Tell(phase=Phase.COMPLETED):
                # Who has heard that a step is done may count on its result, also after kill -9.
                build = self._builds[what.job]
                announce = build.progress.announce
                self._scribe.after(
                    partial(announce, what.vertex, event_of(what, self._clock.now()), build.say)
                )
                build.progress.notify()
            case Tell():
                build = self._builds[what.job]
                build.say(event_of(what, self._clock.now()))
                if what.phase is Phase.CACHED:
                    build.progress.notify()
            case JobDone(job=job, solved=solved, keys=keys):
                build = self._builds[job]
                build.progress.end(Known(solved, keys))
                self._scribe.after(partial(build.succeed, Solution(build.targets, solved, keys)))
                self._scribe.hurry()
            case JobFailed(job=job, error=error, solved=solved, keys=keys):
                self._builds[job].progress.end(Known(solved, keys))
                self._builds[job].fail(error)

    def _spawn(self, ticket: int, job: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[ticket] = task, job
        task.add_done_callback(partial(self._ended, ticket))

    def _ended(self, ticket: int, task: asyncio.Task[None]) -> None:
        self._tasks.pop(ticket, None)
        if task.cancelled():
            # Nobody but the state cancels tasks, and then it does not wait any more.
            self._feed(Failed(ticket, InternalError("a runner cancelled itself")))
        elif (error := task.exception()) is not None:
            self._collapse(error)

    def _collapse(self, error: BaseException) -> None:
        """Our own bug: end every job rather than leave one waiting for ever."""
        self._state = State(self._state.next_ticket)
        for build in self._builds.values():
            build.fail(error)
        for task, _ in self._tasks.values():
            task.cancel()

    def _warn(self, what: str, error: Exception) -> None:
        for build in self._builds.values():
            build.say(BuildWarning(message=f"{what}: {unwrap(error)}"))

    # --- the work ---------------------------------------------------------------------------------

    async def _identify(self, what: Identify) -> None:
        build = self._builds[what.job]
        try:
            async with self._queues["sources"].place(what.vertex.digest, build.weights):
                identity = await build.runner.identify(what.vertex)
        except Exception as error:  # noqa: BLE001  whatever it is, the job has to hear of it
            self._feed(Failed(what.ticket, _blamed(error, what.vertex)))
        else:
            self._feed(Identified(what.ticket, identity))

    async def _probe(self, what: Probe) -> None:
        record: Record | None = None
        try:
            key: Digest | None = what.key
            await self._scribe.written(what.key)
            if what.alias:
                key = await asyncio.to_thread(self._store.alias, what.key)
            if key is not None:
                await self._scribe.written(key)
                record = await asyncio.to_thread(self._store.load, key)
        except Exception as error:  # noqa: BLE001  a cache fault does not fail a build
            self._warn(f'cannot look up "{what.vertex.meta.name}", it runs again', error)
        self._feed(Probed(what.ticket, record))

    async def _digest(self, what: DigestContent) -> None:
        build = self._builds[what.job]
        try:
            async with self._queues["digests"].place(what.vertex.digest, build.weights):
                content = await build.runner.content_digest(what.result, what.selection)
        except Exception as error:  # noqa: BLE001  whatever it is, the job has to hear of it
            blamed = _blamed(error, what.vertex)
            inputs = what.vertex.inputs
            is_base = isinstance(what.vertex.op, FileOp) and inputs[what.index] == inputs[0]
            if is_base and isinstance(blamed, MissingSource):
                blamed = blamed.of_base()
            blamed = blamed.copy_with(vertex=what.vertex.digest, input=what.index)
            self._feed(await self._event_of(what, blamed))
        else:
            self._feed(Digested(what.ticket, content))

    async def _run(self, what: Run) -> None:
        build = self._builds[what.job]
        queue = self._queue_of(what.vertex)
        run = partial(self._run_now, what, build.runner)
        try:
            if queue is None:
                self._feed(await run())
                return
            turn = partial(queue.place, what.vertex.digest, build.weights)
            waits = partial(self._tell_of_waiting, what)
            async with self._flights.made_once(what, turn, run, waits) as made:
                self._feed(made)
        except Exception as error:  # noqa: BLE001  whatever it is, the job has to hear of it
            self._feed(await self._event_of(what, _blamed(error, what.vertex)))

    def _tell_of_waiting(self, what: Run, over: bool) -> None:
        """Say to whoever watches that another process makes a result, or that it does not any more."""
        self._feed(Began(what.ticket))
        event = waiting(what.vertex, self._clock.now(), over=over)
        self._pass_on(what.ticket, what.vertex.digest, event)

    async def _event_of(self, what: DigestContent | Run, error: PybuildError) -> InputGone | Failed:
        """Return the event for an error: no failure where an input is gone that can be made again."""
        if isinstance(error, DeltaGone) and self._state.can_lose(what.ticket, error.delta):
            build = self._builds[what.job]
            build.losses += 1
            everywhere = error.everywhere or build.losses > _PATIENCE
            try:
                await asyncio.to_thread(self._store.forget, error.delta, everywhere=everywhere)
            except PybuildError as fault:
                return Failed(what.ticket, fault)
            if self._state.can_lose(what.ticket, error.delta):
                text = f"a stored result is gone, its step runs: {error.message}"
                for job, _ in self._state.audience(what.ticket):
                    self._builds[job].say(BuildWarning(message=text))
                return InputGone(what.ticket, error.delta, error)
        return Failed(what.ticket, error)

    def _prepare_store(self, key: Digest) -> None:
        """Have the store ready for results by the time that there are some."""
        if self._builds:
            self._scribe.put(key, self._store.prepare)

    def _tell_of_miss(self, what: Run) -> None:
        """Announce the run to every job that waits for it; it goes ahead unless all of them refuse.

        Raises:
            Exception: what the last of them raised.
        """
        refusals: list[Exception] = []
        audience = self._state.audience(what.ticket)
        for job, vertex in audience:
            try:
                self._builds[job].missed(vertex, what)
            except Exception as error:  # noqa: BLE001  a listener is somebody else's code
                self._builds[job].fail(_blamed(error, vertex))
                refusals.append(error)
        if refusals and len(refusals) == len(audience):
            raise refusals[-1]

    async def _run_now(self, what: Run, runner: Runner) -> Ran:
        self._tell_of_miss(what)
        if not self._is_prepared:
            self._is_prepared = True
            prepare = partial(self._prepare_store, what.vertex.digest)
            asyncio.get_running_loop().call_later(_PREPARE_AFTER_S, prepare)
        self._feed(Began(what.ticket))
        began = self._clock.now()
        emit = partial(self._pass_on, what.ticket, what.vertex.digest)
        RUN_KEY.set(None if what.fresh else what.key)  # of this run's own task
        times = RunTimes(self._clock.now)
        RUN_TIMES.set(times)
        result = await runner.run(what.vertex, what.inputs, emit)
        now = self._clock.now()
        return Ran(
            ticket=what.ticket,
            result=result,
            seconds=times.own_s(now - began),
            created=now,
            contents=runner.reread(what.vertex),
        )

    def _queue_of(self, vertex: Vertex) -> Queue | None:
        match vertex.op:
            case LocalSource():
                return None  # there is nothing to do
            case ExecOp():
                return self._queues["steps"]
            case FileOp() | MergeOp() | DiffOp() | PassOp():
                return self._queues["files"]
            case _:
                return self._queues["sources"]

    def _pass_on(self, ticket: int, ran: Digest, event: Event) -> None:
        """Give what a run emits to every job that watches it, under its own vertex.

        What is said of other vertices than the one that *ran*, such as a layer that is pulled for
        it, is theirs.
        """
        for job, vertex in self._state.audience(ticket):
            build = self._builds[job]
            if isinstance(event, BuildWarning) or event.vertex != ran:
                build.say(event)
            else:
                build.say(replace(event, vertex=vertex.digest))

    def _weigh(self, targets: tuple[Vertex, ...]) -> Mapping[Digest, float]:
        from pybuild.solver import graph  # networkx takes longer to load than most builds need

        try:
            return graph.critical_seconds(graph.load(targets), self._store.seconds)
        except PybuildError:
            return graph.critical_seconds(graph.load(targets), lambda _: None)


def _blamed(error: Exception, vertex: Vertex) -> PybuildError:
    """Return the error with the place it happened at, as one of our kinds."""
    cause = unwrap(error)
    if isinstance(cause, PybuildError):
        return cause.with_spans(vertex.meta.spans)
    kind = EnvironmentFault if isinstance(error, OSError) else InternalError
    blamed = kind(f"{vertex.meta.name}: {error or type(error).__name__}", spans=vertex.meta.spans)
    blamed.__cause__ = error
    return blamed
