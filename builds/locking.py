"""Looks at what the sources of a build are now, for its lock file; nothing is built."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.builds.lockfile import IMAGE, Lock
from pybuild.builds.prepare import prepare
from pybuild.frontend.giturl import without_credentials
from pybuild.frontend.lowering.policies import identifier_of
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.ops import GitSource, HttpSource, walk

if TYPE_CHECKING:
    from pybuild.builds.prepare import PreparedBuild
    from pybuild.builds.request import BuildRequest
    from pybuild.engine.engine import Engine
    from pybuild.frontend.lowering.interface import ImageRequest
    from pybuild.model.events import Emit


async def lock_sources(engine: Engine, request: BuildRequest, emit: Emit) -> Lock:
    """Return the content of all sources that the build names; of all stages where none is asked for.

    Raises:
        UserError: there is no such source, or its name has credentials.
        EnvironmentFault: it cannot be reached.
    """
    sources: dict[str, str] = {}
    targets = [request.target]
    for target in targets:
        prepared = await prepare(engine, replace(request, target=target), emit)
        try:
            await _add(engine, prepared, sources)
            if not target:
                targets += filter(None, [one.start.name for one in prepared.dockerfile.stages])
        finally:
            await engine.release(prepared.sources)
    return Lock(sources)


async def _add(engine: Engine, prepared: PreparedBuild, sources: dict[str, str]) -> None:
    for image, _ in prepared.lookups.images:
        name = f"{IMAGE}{image.reference}"
        if not image.layout and name not in sources:
            sources[name] = await _digest(engine, image)
    results = [one.result for one in prepared.lowered]
    remote = prepared.sources.remote
    for vertex in walk(*results, *prepared.lookups.vertices):
        op = vertex.op
        if not isinstance(op, GitSource | HttpSource):
            continue
        name = identifier_of(op)
        if name in sources or (isinstance(op, HttpSource) and not name.startswith("http")):
            continue
        if without_credentials(name) != name or (
            isinstance(op, GitSource) and without_credentials(op.remote) != op.remote
        ):
            raise UserError(
                f"{without_credentials(name)} has credentials in its URL, which a lock file would show",
                hints=["give them as the secret GIT_AUTH_TOKEN or HTTP_AUTH_TOKEN"],
            )
        if isinstance(op, HttpSource):
            sources[name] = f"sha256:{(await remote.http.file(op)).sha256}"
        else:
            commit = (await remote.git.resolve(op)).commit
            plain = "https://" + name.removeprefix("git://").partition("#")[0]
            sources[name] = commit if op.remote == plain else f"{op.remote}#{commit}"


async def _digest(engine: Engine, image: ImageRequest) -> str:
    """Return the digest that a name has at its registry, else in the store: of the index if there is one."""
    from pybuild.registry.client.pull import resolve_image

    reference = image.reference
    if reference.digest is not None:
        return str(reference.digest)
    try:
        resolved = await resolve_image(engine.client(), reference, image.platform)
    except PybuildError:
        held = await asyncio.to_thread(engine.store.images.resolve, str(reference))
        if held is None:
            raise
        return str(held.digest)
    outermost = next(iter(resolved.indexes), None)
    return str(resolved.manifest.digest if outermost is None else Digest.of(outermost))
