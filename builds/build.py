"""The second half of a build: the prepared targets are solved, exported and explained."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.builds.contextkinds import origin_of
from pybuild.builds.delivery import Delivery, Solves, keep_store, solve_and_deliver
from pybuild.builds.lowering import warnings_of
from pybuild.builds.prepare import PreparedBuild, prepare, sources_shown
from pybuild.builds.recording import Recording, recorded
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.explain import history
from pybuild.explain.account import Account, MissRefused
from pybuild.explain.cause import Surroundings
from pybuild.exporter.built import Built, Exported
from pybuild.exporter.export import succeeding
from pybuild.exporter.output import Output
from pybuild.frontend.lowering.interface import Lowered
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import BuildWarning, Emit, Event, VertexCached
from pybuild.model.ops import LocalSource, walk
from pybuild.model.snapshot import Snapshot
from pybuild.remotecache.session import enter_cache_session

if TYPE_CHECKING:
    from pybuild.builds.advising import AdviceFilter
    from pybuild.builds.localattestations import LocalAttestor
    from pybuild.cache.records.imported import ImportedCache
    from pybuild.executor.runner import BuildRunner
    from pybuild.explain.report import BuildReport
    from pybuild.exporter.sink import Sink
    from pybuild.model.snapshot import Result
    from pybuild.remotecache.session import CacheSession
    from pybuild.solver.solution import Solution


async def build(engine: Engine, request: BuildRequest, emit: Emit) -> BuildResult:
    """Build *request* from its text to its outputs.

    Raises:
        UserError: `StepError` is one; EnvironmentFault.
    """
    with recorded(engine, request, emit) as recording:
        prepared = await prepare(engine, recording.request, recording.emit)
        return await build_prepared(engine, prepared, recording)


async def build_prepared(
    engine: Engine,
    prepared: PreparedBuild,
    recording: Recording,
    *,
    explained: Callable[[BuildReport], None] = lambda report: None,
) -> BuildResult:
    """Solve and export, and keep in the store's history which steps ran, and why.

    Args:
        recording: the build's, in whose block it is called; takes its events.
        explained: called with that history at the end, also of a build that fails.

    Raises:
        StepError: a RUN failed; UserError, EnvironmentFault.
    """
    account = Account(refuse=prepared.request.fail_on_miss)
    imports: list[ImportedCache] = []
    settled: list[BuildReport | None] = []

    async def keep(error: str) -> BuildReport | None:
        error = recording.record.log.without_secrets(error)
        report = await history.explain(
            recording.record,
            engine.store,
            engine.results.inputs,
            account,
            _subject_of(prepared),
            imports,
            error,
        )
        if report is not None:
            explained(report)
        return report

    async def settle(error: Exception) -> tuple[BaseException, BuildReport | None]:
        cause = unwrap(error)
        if settled:
            return cause, settled[0]
        recording.record.stop_clock()
        cause = _answered(prepared, cause)
        report = await keep(cause.message if isinstance(cause, PybuildError) else str(cause))
        settled.append(report)
        if isinstance(cause, MissRefused) and report is not None:
            from pybuild.explain.text import refusal

            cause = cause.saying(cause.message + refusal(report))
        return cause, report

    try:
        result = await _build(engine, prepared, recording, account, imports, settle)
    except Exception as error:
        cause, _ = await settle(error)
        if cause is error:
            raise
        raise cause from error
    recording.result = replace(result, report=await keep(""))
    return recording.result


def with_load(request: BuildRequest) -> BuildRequest:
    """Return *request* with an output into the store, if it asks for that and has none."""
    if request.load is None or any(one.type == "image" for one in request.outputs):
        return request
    return replace(request, outputs=(*request.outputs, request.load))


async def load_result(
    engine: Engine,
    request: BuildRequest,
    result: BuildResult,
    environ: Mapping[str, str],
    emit: Emit,
) -> None:
    """Load the image into the Docker engine that *environ* names too, if *request* asks for that.

    Raises:
        EnvironmentFault: the engine is there and refuses.
    """
    if request.load is None or result.image is None:
        return
    from pybuild.exporter.docker.load import load_if_running

    where = (engine.store, engine.clock, environ)
    await load_if_running(*where, result.image, result.names, emit)


def _answered(prepared: PreparedBuild, error: BaseException) -> BaseException:
    """Return the error with the cause and the way out that the Dockerfile shows."""
    if not isinstance(error, PybuildError):
        return error
    from pybuild.builds.answers import answered

    context, first = prepared.request.context, prepared.lowered[0]
    return answered(error, prepared.dockerfile, context, first.warnings + first.advice)


class _BuildEvents:
    """The events of a build's steps, on their way to its account and to who watches it."""

    def __init__(self, prepared: PreparedBuild, account: Account, emit: Emit) -> None:
        self._prepared = prepared
        self._account = account
        self._emit = emit
        self._cached: set[str] = set()
        self._advice: AdviceFilter | None = None

    def watch(self, event: Event) -> None:
        """Pass an event on, if it is news and no advice that the Dockerfile wants to be spared."""
        if isinstance(event, BuildWarning):
            if event.rule and self._hides(event):
                return
        elif event.vertex in self._prepared.sources.loaded:
            return  # emitted when it was read from
        if isinstance(event, VertexCached):
            self._cached.add(event.vertex)
        self._account.watch(event)
        self._emit(event)

    def steps(self) -> tuple[tuple[str, str], ...]:
        """Return each step's name with ``CACHED`` or ``DONE``, in the order of the graph."""
        loaded = self._prepared.sources.loaded
        return tuple(
            (vertex.meta.name, "CACHED" if vertex.digest in self._cached else "DONE")
            for vertex in walk(*(one.result for one in self._prepared.lowered))
            if vertex.meta.name
            and not isinstance(vertex.op, LocalSource)
            and vertex.digest not in loaded
        )

    def _hides(self, warning: BuildWarning) -> bool:
        from pybuild.builds.advising import AdviceFilter

        if self._advice is None:
            prepared = self._prepared
            self._advice = AdviceFilter(prepared.dockerfile, prepared.request.build_args)
        return self._advice.hides(warning)


async def _build(
    engine: Engine,
    prepared: PreparedBuild,
    recording: Recording,
    account: Account,
    imports: list[ImportedCache],
    settle: _Settle,
) -> BuildResult:
    emit = recording.emit
    events = _BuildEvents(prepared, account, emit)
    runner = prepared.sources.runner(prepared.inputs.trees)
    async with AsyncExitStack() as stack:
        _enter_surroundings(engine, prepared, stack)
        async with runner, _leftovers(engine, prepared, runner, recording, settle):
            attestor = _attestor(engine, prepared, runner, events)

            async def caches() -> CacheSession:
                request = prepared.request
                cache_session = await enter_cache_session(
                    engine, request.cache_from, request.cache_to, stack, emit
                )
                imports.extend(cache_session.imports)
                if cache_session.mounts is not None:
                    runner.carry_mounts(cache_session.mounts)
                return cache_session

            async def results(solves: Solves) -> list[Built]:
                targets = [one.result for one in prepared.lowered]
                if (breaks := prepared.request.breaks) is not None:
                    targets = breaks.enter(targets, prepared.dockerfile, runner)
                solution = await solves.solve(targets, runner, events.watch)
                return _results_of(prepared.request, prepared.lowered, solution)

            delivered = await solve_and_deliver(
                engine,
                Delivery(
                    outputs=_outputs_of(prepared.request),
                    tags=prepared.request.tags,
                    sink=lambda number: _local_sink(engine),
                    origin=origin_of(prepared.request),
                ),
                caches=caches,
                results=results,
                attest=_unattested if attestor is None else attestor.attest,
                missed=account.missed,
                emit=emit,
            )
            image = next((one for one in reversed(delivered.exported) if one.made), Exported())
            metadata: dict[str, Any] = {**image.metadata}
            if attestor is not None:
                metadata |= await attestor.metadata(delivered.built, os.environ)
            if delivered.cache is not None:
                metadata["cache.manifest"] = delivered.cache.to_json()
    await keep_store(engine)
    return BuildResult(
        image=image.made.descriptor if image.made else None,
        image_id=image.made.image_id if image.made else None,
        names=image.names,
        layers=tuple(id for one in delivered.built for id in _layers_of(one.result)),
        steps=events.steps(),
        warnings=tuple(warnings_of(prepared.lowered)),
        metadata=metadata,
    )


_Settle = Callable[[Exception], Awaitable[tuple[BaseException, "BuildReport | None"]]]
"""Returns the error with its cause, as it is going to be told, and the reasons of the build's steps."""


@asynccontextmanager
async def _leftovers(
    engine: Engine,
    prepared: PreparedBuild,
    runner: BuildRunner,
    recording: Recording,
    settle: _Settle,
) -> AsyncGenerator[None]:
    """Bring what a step that fails inside the context has left to where the request wants it."""
    folder, on_fail = prepared.request.on_fail_output, prepared.request.on_fail
    if not folder and on_fail is None:
        yield
        return
    from pybuild.builds.leftovers import Leftovers, with_hints, with_leftovers

    lines = {prepared.inputs.filename: prepared.dockerfile.lines}
    leftovers = Leftovers(engine, runner, lambda name: lines.get(name, ()))
    try:
        yield
    except Exception as error:
        failed, report = await settle(error)
        if not isinstance(failed, Exception):
            raise
        if folder:
            failed = await with_leftovers(leftovers, folder, failed, folder)
        if on_fail is not None and (step := leftovers.first) is not None:
            from pybuild.builds.failedbuild import FailedBuild

            shown = failed.showing(lines) if isinstance(failed, PybuildError) else failed
            build = FailedBuild(
                engine=engine,
                runner=runner,
                step=step,
                error=shown,
                report=report,
                events=recording.record.log.events,
            )
            failed = await with_hints(failed, on_fail(build))
        if failed is error:
            raise
        raise failed from error


def _outputs_of(request: BuildRequest) -> Sequence[Output]:
    return request.outputs or (Output(type="image"),)


def _enter_surroundings(engine: Engine, prepared: PreparedBuild, stack: AsyncExitStack) -> None:
    """Enter what lasts from a build's first step to its last output."""
    request, outputs = prepared.request, _outputs_of(prepared.request)
    stack.push_async_callback(engine.release, prepared.sources)
    stack.enter_context(sources_shown(prepared.inputs.filename, prepared.dockerfile.lines))
    stack.enter_context(succeeding(engine.store, outputs, origin_of(request)))
    if request.no_cache or request.no_cache_filter:  # memos stand for old results [KEY-11]
        stack.callback(engine.store.forget_memos)


def _attestor(
    engine: Engine, prepared: PreparedBuild, runner: BuildRunner, events: _BuildEvents
) -> LocalAttestor | None:
    attestations = prepared.request.attestations
    if not attestations:
        return None
    from pybuild.builds.localattestations import LocalAttestor

    return LocalAttestor(engine, prepared, runner, attestations, events.watch)


def _local_sink(engine: Engine) -> Sink:
    from pybuild.exporter.files import LocalSink  # not for an image of the store

    return LocalSink(engine)


def _layers_of(result: Result) -> Sequence[str]:
    return result.deltas if isinstance(result, Snapshot) else ()


async def _unattested(built: Sequence[Built], _: Solves) -> Sequence[Built]:
    return built


def _subject_of(prepared: PreparedBuild) -> history.BuildSubject:
    """Return the subject of the build in the history."""
    request, inputs = prepared.request, prepared.inputs
    return history.BuildSubject(
        context=request.context,
        dockerfile=inputs.filename,
        target=request.target,
        targets=[one.result for one in prepared.lowered],
        reported=prepared.sources.loaded,
        around=Surroundings(
            dockerfile=prepared.dockerfile,
            trees=inputs.trees,
            files=inputs.files,
            started=prepared.started,
        ),
    )


def _results_of(
    request: BuildRequest, lowered: Sequence[Lowered], solution: Solution
) -> list[Built]:
    """Return the result for each platform."""
    platforms = request.platforms or (native_platform(),)
    secrets: dict[str, bytes] = {}
    if request.secrets and any(output.checks_secrets for output in request.outputs):
        for id, secret in request.secrets.items():
            with suppress(PybuildError, OSError):  # said by the step that wants it, if one does
                secrets[id] = secret.read()
    return [
        Built(
            lowered=one,
            result=solution.of(one.result).result,
            is_one_of_many=request.multi_platform,
            key=str(platform),
            secrets=secrets,
        )
        for one, platform in zip(lowered, platforms, strict=True)
    ]
