"""The first half of a build: the request read, parsed and lowered, before anything runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from functools import partial

from pybuild.builds.contextkinds import is_at_hand
from pybuild.builds.contexts import GIT_MODES, BuildInputs, check_volume, load_inputs
from pybuild.builds.definition import lower_options
from pybuild.builds.entitlements import check_entitlements
from pybuild.builds.epoch import Epochs
from pybuild.builds.lookups import Lookups, note_files, noting
from pybuild.builds.lowering import Lookup, Lowering, advice_of, warnings_of
from pybuild.builds.request import BuildRequest
from pybuild.builds.sources import BuildSources, open_sources
from pybuild.builds.standardinput import StandardInput
from pybuild.engine.abandonable import abandonable
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.exporter.check import check_outputs
from pybuild.frontend.lowering.contexts import NamedContexts, VertexContext
from pybuild.frontend.lowering.epoch import EpochSource
from pybuild.frontend.lowering.interface import Lowered, may_need_frontend
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.frontend.syntax.physical import excerpts
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.events import Emit
from pybuild.model.snapshot import LocalTree


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBuild:
    """A build whose definition is known and of which nothing has run.

    Attributes:
        lowered: one definition a platform, in the request's order.
        sources: closed when the build ends; otherwise when the engine does.
        epochs: the sources whose times SOURCE_DATE_EPOCH names.
        lookups: those that the definitions are made from.
        started: when this began, seconds since the epoch.
    """

    request: BuildRequest
    inputs: BuildInputs
    dockerfile: Dockerfile
    lowered: tuple[Lowered, ...]
    sources: BuildSources
    epochs: tuple[EpochSource, ...] = ()
    lookups: Lookups = field(default_factory=Lookups)
    started: float = 0.0


@dataclass(frozen=True, slots=True)
class LinkedContexts:
    """The named contexts of a build that are results of other builds.

    Attributes:
        contexts: by the name, or ``name::platform``, of the context.
        trees: the local directories that these read, by the names that they are known by.
        files: the local files that they were made from, as `BuildInputs` has them.
    """

    contexts: Mapping[str, VertexContext] = field(default_factory=dict[str, VertexContext])
    trees: Mapping[str, LocalTree] = field(default_factory=dict[str, LocalTree])
    files: Mapping[str, bytes | None] = field(default_factory=dict[str, bytes | None])


NOTHING_LINKED = LinkedContexts()


async def prepare(
    engine: Engine,
    request: BuildRequest,
    emit: Emit,
    *,
    linked: LinkedContexts = NOTHING_LINKED,
) -> PreparedBuild:
    """Read, parse and lower: everything up to the point where something would run.

    Raises:
        UserError: with the lines it is about; EnvironmentFault: a registry cannot be reached.
    """
    check_outputs(request.outputs, request.tags, is_index=request.is_index)
    sources, lookups = open_sources(engine, request), Lookups()
    try:
        with noting(lookups):
            return await _prepare(engine, request, sources, lookups, linked, emit)
    except BaseException:
        await engine.release(sources)
        raise


async def _prepare(
    engine: Engine,
    request: BuildRequest,
    sources: BuildSources,
    lookups: Lookups,
    linked: LinkedContexts,
    emit: Emit,
) -> PreparedBuild:
    for volume in request.volumes:
        check_volume(volume, engine.store.root)
    stdin, started = StandardInput(), engine.clock.now()
    inputs: BuildInputs | None = None
    waits = request.context == "-"  # which is for people to see
    if waits or await abandonable(is_at_hand, request, stdin):
        async with internal_step("[internal] load build definition", emit, engine.clock):
            if not waits or await abandonable(is_at_hand, request, stdin):
                inputs = await abandonable(load_inputs, request, stdin)
    if inputs is None:
        from pybuild.builds.remotecontexts import load_remote_inputs

        inputs = await load_remote_inputs(request, stdin, sources, emit)
    if linked.contexts:
        trees, files = {**linked.trees, **inputs.trees}, {**linked.files, **inputs.files}
        inputs = replace(inputs, linked=linked.contexts, trees=trees, files=files)
    here = native_platform()
    platforms = request.platforms or (here,)
    if may_need_frontend(inputs.dockerfile, request.build_args):
        from pybuild.frontend.lowering.frontends import check_file

        contexts = NamedContexts(inputs.contexts, inputs.context_trees)
        file = (inputs.dockerfile, inputs.filename, request.build_args)
        check_file(*file, contexts, platforms[0])
    if inputs.context is None or os.path.isabs(request.dockerfile):
        note_files("dockerfile", [inputs.filename])
    if inputs.context is None:
        note_files("context", [".dockerignore"])
    if request.git_modes and inputs.trees:
        async with internal_step(GIT_MODES, emit, engine.clock):
            pass  # for people to see
    lookup = Lookup(
        image=partial(engine.images.resolve, pull=request.pull),
        epochs=Epochs(sources.remote, emit, engine.clock),
        emit=emit,
        clock=engine.clock,
    )
    lowering = Lowering(inputs.dockerfile, inputs.filename, lookup, emit)
    values = await _secret_values(engine, request)
    with sources_shown(inputs.filename, excerpts(inputs.dockerfile)):
        lowered = [
            await lowering.lower(
                replace(lower_options(request, inputs, platform, here), secret_values=values)
            )
            for platform in platforms
        ]
        for one in lowered:
            given = engine.settings.devices
            check_entitlements(one.result, given.granted(request.allow), given.directories)
    for warning in (*advice_of(lowered), *warnings_of(lowered)):
        emit(warning)
    return PreparedBuild(
        request=request,
        inputs=inputs,
        dockerfile=lowering.dockerfile,
        lowered=tuple(lowered),
        sources=sources,
        epochs=lookup.epochs.sources,
        lookups=lookups,
        started=started,
    )


async def _secret_values(engine: Engine, request: BuildRequest) -> dict[str, str]:
    """Return, by id, keyed digests of the secrets whose values count."""
    counted = [secret for secret in request.secrets.values() if secret.in_key]
    if not counted:
        return {}
    from pybuild.cache.content.storekey import make_key, secret_value

    store = engine.store
    key = await asyncio.to_thread(make_key, store.root, store.disk, store.tmp)
    return {secret.id: secret_value(key, secret.id, secret.read()) for secret in counted}


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
