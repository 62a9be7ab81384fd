"""A build's requests and lookups, kept for its provenance [ATT-2]."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from pybuild.buildkit.llb.steps import describe, local_vertex
from pybuild.builds.lookups import Lookups
from pybuild.engine.host import native_platform
from pybuild.exporter.attest.frontendrequest import FrontendRequest, with_root
from pybuild.exporter.attest.predicate import DOCKERFILE_VERSION, Facts
from pybuild.exporter.attest.sources import Image, Sources, sources_of
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import GitSource, HttpSource, LocalSource, walk
from pybuild.model.platform import Platform

if TYPE_CHECKING:
    from pybuild.buildkit.llb.described import Definition
    from pybuild.daemon.builds.scope import Scope
    from pybuild.daemon.frontend.lazytree import LazyTree
    from pybuild.daemon.frontend.results import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """One answer that the build gave.

    Attributes:
        request: None for a definition as it came.
        lookups: those of the frontend for the answer, be they part of that or not.
    """

    request: FrontendRequest | None
    references: tuple[LazyTree, ...]
    lookups: Lookups = field(default_factory=Lookups)


class Ledger:
    """The answers of one build.

    Attributes:
        root: the request that started the build.
        lookups: those of the client's own frontend.
        started: seconds since the epoch.
    """

    def __init__(self, root: FrontendRequest, started: float) -> None:
        self.root = root
        self.started = started
        self.lookups = Lookups()
        self.solves: list[Solve] = []
        self._invocation = os.urandom(12).hex()

    async def facts(
        self,
        scope: Scope,
        reference: LazyTree,
        result: Result,
        key: str,
        *,
        full: bool,
        machine: Mapping[str, Any],
    ) -> Facts:
        """Return the facts about *reference*, which is *key* in the build's result.

        Args:
            full: with the definition.
            machine: the operator's entries.

        Raises:
            UserError: the definition cannot be written.
        """
        solve = next((one for one in self.solves if reference in one.references), None)
        pins = _Pins(scope)
        if solve is None or solve.request is None:
            # The client put it together: what it had before may be in there.
            looked_up = [
                *self.lookups.images,
                *(i for one in self.solves for i in one.lookups.images),
            ]
            images = _for_platform(looked_up, result, key)
            sources = await sources_of([reference.vertex, *self._others(result)], pins, images)
            for lookups in (self.lookups, *(one.lookups for one in self.solves)):
                sources.merge(await _sources_of(lookups, pins))
            document: dict[str, Any] = {"configSource": {}, "request": {}}
        else:
            images = _for_platform(solve.lookups.images, result, key)
            sources = await sources_of([reference.vertex], pins, images)
            sources.merge(await _sources_of(solve.lookups, pins))
            root = self.root.document(sources) if self.root else None
            document = with_root(solve.request.document(sources), root)
        lookups = solve.lookups if solve is not None else Lookups()
        return Facts(
            document=document,
            sources=sources,
            definition=_definition(scope, reference, lookups) if full else None,
            platform=native_platform(),
            dockerfile_version=DOCKERFILE_VERSION,
            machine=machine,
            invocation=self._invocation,
            started=self.started,
            finished=self.started,
        )

    def _others(self, result: Result) -> Iterable[Any]:
        """The vertices of answers that the result does not name."""
        named = {reference.id for _, reference in result.each() if reference is not None}
        for one in self.solves:
            for reference in one.references:
                if reference.id not in named:
                    yield reference.vertex


def _definition(scope: Scope, reference: LazyTree, lookups: Lookups) -> Definition:
    queries = scope.trees.queries(
        vertex.op for vertex in walk(reference.vertex) if isinstance(vertex.op, LocalSource)
    )
    # Who was asked is gone with the build, and would make equal builds differ.
    queries = {name: replace(query, session="") for name, query in queries.items()}
    origin = None
    for directory, files in lookups.files.items():
        origin, its_own = local_vertex(directory, *files)
        queries = {**its_own, **queries}
        break
    else:
        origin = next(iter(lookups.vertices), None)
    return describe(reference.vertex, scope.files, origin, queries)


async def _sources_of(lookups: Lookups, pins: _Pins) -> Sources:
    sources = await sources_of(lookups.vertices, pins)
    sources.locals |= lookups.files.keys()
    return sources


def _for_platform(
    lookups: Iterable[tuple[ImageRequest, Digest]], result: Result, key: str
) -> list[Image]:
    """Leave out images that were looked up for the other platforms of the result."""
    platforms: Sequence[tuple[str, Platform]] = result.platforms()
    own = dict(platforms).get(key)
    known = [
        Image(request.reference, request.platform, digest, bool(request.layout))
        for request, digest in dict.fromkeys(lookups)
    ]
    if own is None or len(platforms) < 2:
        return known
    requested = {(platform.os, platform.arch) for _, platform in platforms}
    has: dict[str, set[tuple[str, str]]] = {}
    for image in known:
        if image.platform is not None:
            pair = (image.platform.os, image.platform.arch)
            has.setdefault(str(image.reference), set()).add(pair)
    return [
        image
        for image in known
        if image.platform is None
        or not requested <= has[str(image.reference)]
        or (image.platform.os, image.platform.arch) == (own.os, own.arch)
    ]


class _Pins:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def commit(self, op: GitSource) -> str:
        return (await self._scope.sources.git.resolve(op)).commit

    async def sha256(self, op: HttpSource) -> str:
        return (await self._scope.sources.http.file(op)).sha256

    def local_name(self, op: LocalSource) -> str:
        return self._scope.trees.client_name(op)
