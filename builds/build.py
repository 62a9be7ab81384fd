"""The second half of a build: the prepared targets are solved, exported and explained."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
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
from pybuild.remotecache.session import enter_cache_session

if TYPE_CHECKING:
    from pybuild.builds.advising import AdviceFilter
    from pybuild.builds.localattestations import LocalAttestor
    from pybuild.cache.records.imported import ImportedCache
    from pybuild.explain.report import BuildReport
    from pybuild.exporter.sink import Sink
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

    try:
        result = await _build(engine, prepared, recording.emit, account, imports)
    except Exception as error:
        cause = _answered(prepared, unwrap(error))
        report = await keep(cause.message if isinstance(cause, PybuildError) else str(cause))
        if isinstance(cause, MissRefused) and report is not None:
            from pybuild.explain.text import refusal

            raise cause.saying(cause.message + refusal(report)) from error
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


async def _build(
    engine: Engine,
    prepared: PreparedBuild,
    emit: Emit,
    account: Account,
    imports: list[ImportedCache],
) -> BuildResult:
    request, sources = prepared.request, prepared.sources
    outputs = request.outputs or (Output(type="image"),)
    cached: set[str] = set()
    advice: AdviceFilter | None = None

    def watch(event: Event) -> None:
        nonlocal advice
        if isinstance(event, BuildWarning) and event.rule:
            from pybuild.builds.advising import AdviceFilter

            advice = advice or AdviceFilter(prepared.dockerfile, request.build_args)
            if advice.hides(event):
                return
        if not isinstance(event, BuildWarning) and event.vertex in sources.loaded:
            return  # emitted when it was read from
        if isinstance(event, VertexCached):
            cached.add(event.vertex)
        account.watch(event)
        emit(event)

    runner = sources.runner(prepared.inputs.trees)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.release, sources)
        stack.enter_context(sources_shown(prepared.inputs.filename, prepared.dockerfile.lines))
        origin = origin_of(request)
        stack.enter_context(succeeding(engine.store, outputs, origin))
        if request.no_cache or request.no_cache_filter:  # memos stand for old results [KEY-11]
            stack.callback(engine.store.forget_memos)
        async with runner:
            attestor: LocalAttestor | None = None
            if request.attestations:
                from pybuild.builds.localattestations import LocalAttestor

                attestor = LocalAttestor(engine, prepared, runner, request.attestations, watch)

            async def caches() -> CacheSession:
                cache_session = await enter_cache_session(
                    engine, request.cache_from, request.cache_to, stack, emit
                )
                imports.extend(cache_session.imports)
                return cache_session

            async def results(solves: Solves) -> list[Built]:
                targets = [one.result for one in prepared.lowered]
                solution = await solves.solve(targets, runner, watch)
                return _results_of(request, prepared.lowered, solution)

            delivered = await solve_and_deliver(
                engine,
                Delivery(
                    outputs=outputs,
                    tags=request.tags,
                    sink=lambda number: _local_sink(engine),
                    origin=origin,
                ),
                caches=caches,
                results=results,
                attest=_unattested if attestor is None else attestor.attest,
                missed=account.missed,
                emit=emit,
            )
            metadata: dict[str, Any] = {}
            image = next((one for one in reversed(delivered.exported) if one.made), Exported())
            metadata |= image.metadata
            if attestor is not None:
                metadata |= await attestor.metadata(delivered.built, os.environ)
            if delivered.cache is not None:
                metadata["cache.manifest"] = delivered.cache.to_json()
    await keep_store(engine)
    steps = tuple(
        (vertex.meta.name, "CACHED" if vertex.digest in cached else "DONE")
        for vertex in walk(*(one.result for one in prepared.lowered))
        if vertex.meta.name
        and not isinstance(vertex.op, LocalSource)
        and vertex.digest not in sources.loaded
    )
    warnings = tuple(warnings_of(prepared.lowered))
    return BuildResult(
        image=image.made.descriptor if image.made else None,
        image_id=image.made.image_id if image.made else None,
        names=image.names,
        steps=steps,
        warnings=warnings,
        metadata=metadata,
    )


def _local_sink(engine: Engine) -> Sink:
    from pybuild.exporter.files import LocalSink  # not for an image of the store

    return LocalSink(engine)


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
    return [
        Built(
            lowered=one,
            result=solution.of(one.result).result,
            is_one_of_many=request.multi_platform,
            key=str(platform),
        )
        for one, platform in zip(lowered, platforms, strict=True)
    ]
