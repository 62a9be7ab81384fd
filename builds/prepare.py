"""The first half of a build: the request read, parsed and lowered, before anything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field

from pybuild.builds.contextkinds import is_at_hand
from pybuild.builds.contexts import GIT_MODES, BuildInputs, load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.entitlements import check_entitlements
from pybuild.builds.epoch import Epochs
from pybuild.builds.remotecontexts import load_from_elsewhere
from pybuild.builds.request import BuildRequest
from pybuild.builds.sources import BuildSources, open_sources
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.abandonable import abandonable
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.exporter.check import check_outputs
from pybuild.frontend.lowering.epoch import EpochSource
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    Lowered,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.lowering.lower import lower
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import Emit
from pybuild.model.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A build whose definition is known and of which nothing has run.

    Attributes:
        lowered: one definition a platform, in the request's order.
        sources: closed when the build ends; otherwise when the engine does.
        epochs: the sources whose times SOURCE_DATE_EPOCH names.
        images: that the definitions are made from, by request.
        started: when this began, seconds since the epoch.
    """

    request: BuildRequest
    inputs: BuildInputs
    dockerfile: Dockerfile
    lowered: tuple[Lowered, ...]
    sources: BuildSources
    epochs: tuple[EpochSource, ...] = ()
    images: Mapping[ImageRequest, ResolvedImage] = field(
        default_factory=dict[ImageRequest, ResolvedImage]
    )
    started: float = 0.0


async def prepare(engine: Engine, request: BuildRequest, emit: Emit) -> Prepared:
    """Read, parse and lower: everything up to the point where something would run.

    Raises:
        UserError: with the lines it is about; EnvironmentFault: a registry cannot be reached.
    """
    check_outputs(request.outputs, request.tags, is_index=request.is_index)
    sources = open_sources(engine, request)
    try:
        return await _prepare(engine, request, sources, emit)
    except BaseException:
        await engine.release(sources)
        raise


async def _prepare(
    engine: Engine, request: BuildRequest, sources: BuildSources, emit: Emit
) -> Prepared:
    stdin, started = StandardInput(), engine.clock.now()
    loaded: tuple[BuildInputs, Dockerfile] | None = None
    images: dict[ImageRequest, ResolvedImage] = {}
    waits = request.context == "-"  # which is for people to see
    if waits or await abandonable(is_at_hand, request, stdin):
        async with internal_step("[internal] load build definition", emit, engine.clock):
            if not waits or await abandonable(is_at_hand, request, stdin):
                loaded = _parsed(await abandonable(load_inputs, request, stdin))
    if loaded is None:
        loaded = _parsed(await load_from_elsewhere(request, stdin, sources, emit))
    inputs, dockerfile = loaded
    if request.git_modes and inputs.trees:
        async with internal_step(GIT_MODES, emit, engine.clock):
            pass  # for people to see
    here = native_platform()
    platforms = request.platforms or (here,)
    epochs = Epochs(sources.remote, emit, engine.clock)
    with sources_shown(inputs.filename, dockerfile.lines):
        lowered = [
            await _lower(
                engine,
                request,
                dockerfile,
                await epochs.settle(dockerfile, lower_options(request, inputs, platform, here)),
                images,
                emit,
            )
            for platform in platforms
        ]
        for one in lowered:
            check_entitlements(one.result, request.allow)
    for warning in lowered[0].warnings:
        emit(warning)
    return Prepared(
        request=request,
        inputs=inputs,
        dockerfile=dockerfile,
        lowered=tuple(lowered),
        sources=sources,
        epochs=epochs.sources,
        images=images,
        started=started,
    )


async def _lower(
    engine: Engine,
    request: BuildRequest,
    dockerfile: Dockerfile,
    options: LowerOptions,
    images: dict[ImageRequest, ResolvedImage],
    emit: Emit,
) -> Lowered:
    while True:
        answer = lower(dockerfile, options, images)
        if isinstance(answer, Lowered):
            return answer
        images |= await _resolve_all(engine, answer, request, emit)


async def _resolve_all(
    engine: Engine, need: NeedImages, request: BuildRequest, emit: Emit
) -> Mapping[ImageRequest, ResolvedImage]:
    async def resolve(image: ImageRequest, spans: tuple[Span, ...]) -> ResolvedImage:
        name = f"[internal] load metadata for {image.reference}"
        async with internal_step(name, emit, engine.clock):
            try:
                return await engine.images.resolve(image, pull=request.pull)
            except PybuildError as error:
                hinting = error.hinting(*need.hints(image))
                raise hinting.with_spans(spans) from error.__cause__

    async with asyncio.TaskGroup() as group:
        tasks = {
            image: group.create_task(resolve(image, spans))
            for image, spans in zip(need.requests, need.spans, strict=True)
        }
    return {image: task.result() for image, task in tasks.items()}


def _parsed(inputs: BuildInputs) -> tuple[BuildInputs, Dockerfile]:
    """Parse the Dockerfile of *inputs*.

    Raises:
        UserError: with the lines it is about.
    """
    with sources_shown(inputs.filename, excerpts(inputs.dockerfile)):
        return inputs, parse_dockerfile(inputs.dockerfile, inputs.filename)


@contextmanager
def sources_shown(filename: str, lines: Sequence[str]) -> Generator[None]:
    """Give errors that pass through the text that their spans are about."""
    try:
        yield
    except Exception as error:
        cause = unwrap(error)
        if isinstance(cause, PybuildError):
            raise cause.showing({filename: lines}) from error
        raise
