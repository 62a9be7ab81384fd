"""Several builds in one engine: all at once, what is equal of them runs once, and some read others."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from pybuild.builds.build import build_prepared, load_result, with_load
from pybuild.builds.contexts import OF_BUILD
from pybuild.builds.manymemos import Memos, titled
from pybuild.builds.namedbuild import NamedBuild
from pybuild.builds.prepare import LinkedContexts, PreparedBuild, prepare
from pybuild.builds.recording import recorded
from pybuild.builds.remembering import remember, sign
from pybuild.builds.request import BuildRequest
from pybuild.builds.result import BuildResult
from pybuild.engine.engine import Engine
from pybuild.frontend.lowering.contexts import VertexContext
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import BuildWarning, Emit, Event, VertexAdded, VertexCompleted
from pybuild.model.ops import LocalSource, Vertex, walk
from pybuild.model.snapshot import LocalTree


async def make_builds(
    engine: Engine,
    builds: Mapping[str, NamedBuild],
    environ: Mapping[str, str],
    emit: Emit,
    memos: Memos | None = None,
    answered: Collection[str] = (),
) -> dict[str, BuildResult]:
    """Make all builds that are delivered; the first that fails ends the others.

    Args:
        builds: by name; links lead to no circle.
        memos: where what the results were made from is kept for the next time.
        answered: names of those that are made only if others read them.
        environ: names the Docker engine that images are loaded into.

    Raises:
        PybuildError: of that build, which it names.
    """
    return await _Builds(engine, builds, environ, emit, memos).run(answered)


class _Builds:
    def __init__(
        self,
        engine: Engine,
        builds: Mapping[str, NamedBuild],
        environ: Mapping[str, str],
        emit: Emit,
        memos: Memos | None,
    ) -> None:
        self._memos = memos
        self._engine = engine
        self._builds = builds
        self._environ = environ
        self._emit = emit
        self._prepared: dict[str, asyncio.Task[PreparedBuild]] = {}
        self._stack = AsyncExitStack()

    async def run(self, answered: Collection[str]) -> dict[str, BuildResult]:
        delivered = [
            name for name, one in self._builds.items() if one.is_delivered and name not in answered
        ]
        tasks = {name: asyncio.create_task(self._build(name)) for name in delivered}
        try:
            done, _ = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_EXCEPTION)
            failed = [name for name, task in tasks.items() if task in done and task.exception()]
            if failed:
                self._fail(failed[0], tasks[failed[0]].exception())
            return {name: task.result() for name, task in tasks.items()}
        finally:
            await _end([*tasks.values(), *self._prepared.values()])
            await self._stack.aclose()

    def _fail(self, name: str, error: BaseException | None) -> None:
        cause = unwrap(error) if isinstance(error, Exception) else error
        assert cause is not None
        if isinstance(cause, PybuildError) and len(self._builds) > 1:
            raise cause.saying(f"target {name}: {cause.message}") from error
        raise cause

    def _emit_of(self, name: str) -> Emit:
        return self._emit if len(self._builds) == 1 else _named(name, self._emit)

    async def _build(self, name: str) -> BuildResult:
        emit, request = self._emit_of(name), with_load(self._builds[name].request)
        words = None if self._memos is None else self._memos.words(name)
        shown: list[Event] = []

        def show(event: Event) -> None:
            if isinstance(event, VertexAdded | VertexCompleted):
                shown.append(event)
            emit(event)

        linked = await self._linked(name)
        with recorded(self._engine, _with_rights(request, self._read_by(name)), show) as recording:
            prepared = await prepare(self._engine, recording.request, recording.emit, linked=linked)
            signed = None
            if self._memos is not None and words is not None:
                signed = await sign(words, prepared, self._memos.looks)
            result = await build_prepared(self._engine, prepared, recording)
        if signed is not None and words is not None:
            where = (self._engine, words, prepared, signed, result, shown)
            await asyncio.to_thread(remember, *where)
        await load_result(self._engine, request, result, self._environ, emit)
        return result

    def _read_by(self, name: str) -> list[BuildRequest]:
        """Return the requests of all that a build reads, and of what these read."""
        names = dict.fromkeys(self._builds[name].links.values())
        return [
            request for one in names for request in (self._builds[one].request, *self._read_by(one))
        ]

    async def _linked(self, name: str) -> LinkedContexts:
        """Return the contexts of a build that are results of others."""
        contexts: dict[str, VertexContext] = {}
        trees: dict[str, LocalTree] = {}
        files: dict[str, bytes | None] = {}
        for context, other in self._builds[name].links.items():
            prepared = await asyncio.shield(self._prepare(other))
            several = len(prepared.lowered) > 1
            for lowered in prepared.lowered:
                key = f"{context}::{lowered.platform}" if several else context
                vertex = _renamed(lowered.result, other)
                contexts[key] = VertexContext(context, vertex, lowered.config)
            trees |= {_local(other, one): tree for one, tree in prepared.inputs.trees.items()}
            files |= prepared.inputs.files
        return LinkedContexts(contexts, trees, files)

    def _prepare(self, name: str) -> asyncio.Task[PreparedBuild]:
        """Return the preparation of a build that others read, which is made once."""
        if name not in self._prepared:
            self._prepared[name] = asyncio.create_task(self._prepare_linked(name))
        return self._prepared[name]

    async def _prepare_linked(self, name: str) -> PreparedBuild:
        linked, request = await self._linked(name), self._builds[name].request
        prepared = await prepare(self._engine, request, self._emit_of(name), linked=linked)
        self._stack.push_async_callback(self._engine.release, prepared.sources)
        return prepared


async def _end(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _with_rights(request: BuildRequest, read: Sequence[BuildRequest]) -> BuildRequest:
    """Return *request* with the secrets and agents that steps of the builds it reads need."""
    secrets = {name: one for other in reversed(read) for name, one in other.secrets.items()}
    agents = {agent.id: agent for other in (*reversed(read), request) for agent in other.ssh}
    return replace(request, secrets={**secrets, **request.secrets}, ssh=tuple(agents.values()))


def _local(build: str, name: str) -> str:
    """Return the name that a build's local directory has in the builds that read it."""
    return f"{name}{OF_BUILD}{build}"


def _renamed(result: Vertex, build: str) -> Vertex:
    """Return *result* with its local directories called by `_local`: others have some of that name."""
    made: dict[Digest, Vertex] = {}
    for vertex in walk(result):
        op = vertex.op
        if isinstance(op, LocalSource):
            op = replace(op, name=_local(build, op.name))
        inputs = tuple(made[one.digest] for one in vertex.inputs)
        same = op is vertex.op and all(
            new is old for new, old in zip(inputs, vertex.inputs, strict=True)
        )
        made[vertex.digest] = vertex if same else Vertex(op, inputs, vertex.meta)
    return made[result.digest]


def _named(build: str, emit: Emit) -> Emit:
    """Return an *emit* for the events of one of several builds: its vertices have its name."""

    def of(vertex: Digest) -> Digest:
        return Digest.of(f"{build}\0{vertex}".encode())

    def show(event: Event) -> None:
        if isinstance(event, BuildWarning):
            emit(event)
        elif isinstance(event, VertexAdded):
            inputs = tuple(map(of, event.inputs))
            name = titled(build, event.name)
            emit(replace(event, vertex=of(event.vertex), name=name, inputs=inputs))
        else:
            emit(replace(event, vertex=of(event.vertex)))

    return show
