"""A build's requests and lookups, kept for its provenance [ATT-2]."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from pybuild.builds.lookups import Lookups
from pybuild.engine.host import native_platform
from pybuild.exporter.attest.frontendrequest import FrontendRequest, with_root
from pybuild.exporter.attest.predicate import DOCKERFILE_VERSION, Facts
from pybuild.exporter.attest.sources import StepRequests, UsedImage, UsedSources, sources_of
from pybuild.frontend.lowering.interface import ImageRequest
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.ops import GitSource, HttpSource, LocalSource, Vertex, walk
from pybuild.model.platform import Platform

if TYPE_CHECKING:
    from pybuild.buildkit.llb.described import DescribedSteps
    from pybuild.buildkit.llb.queries import LocalQuery
    from pybuild.executor.sources.remote import RemoteSources


RequestsOf = Callable[[Vertex], StepRequests | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """One answer that the build gave.

    Attributes:
        request: None for a definition as it came.
        results: by an id of the caller's.
        lookups: those of the frontend for the answer, be they part of that or not.
    """

    request: FrontendRequest | None
    results: Mapping[str, Vertex]
    lookups: Lookups = field(default_factory=Lookups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The trees that the build ends with, as its provenance names them.

    Attributes:
        ids: of the solves' results, by the tree's key.
        platforms: by key, where there are several.
    """

    ids: Mapping[str, str]
    platforms: Sequence[tuple[str, Platform]] = ()


class Origins(Protocol):
    """The things that one build is made from, as they were used."""

    @property
    def sources(self) -> RemoteSources:
        """Its repositories and files."""
        ...

    @property
    def files(self) -> Mapping[str, bytes]:
        """The whole files that steps come from, by name."""
        ...

    def client_name(self, op: LocalSource) -> str:
        """Return the client's name of a directory."""
        ...

    def queries(self, ops: Iterable[LocalSource]) -> Mapping[str, LocalQuery]:
        """Return the queries for the directories of *ops*, by their names."""
        ...


class LookupLedger:
    """The answers of one build.

    Args:
        machine: the operator's entries.

    Attributes:
        root: the request that started the build.
        lookups: those of the client's own frontend.
        started: seconds since the epoch.
    """

    def __init__(
        self, root: FrontendRequest, started: float, machine: Mapping[str, Any] | None = None
    ) -> None:
        self.root = root
        self.started = started
        self.lookups = Lookups()
        self.solves: list[Solve] = []
        self._machine = machine or {}
        self._invocation = os.urandom(12).hex()

    async def facts(
        self,
        origins: Origins,
        outcome: Outcome,
        key: str,
        result: Vertex,
        *,
        full: bool,
        requests_of: RequestsOf = lambda vertex: None,
    ) -> Facts:
        """Return the facts about *result*, which is *key* in the build's outcome.

        Args:
            full: with the definition.
            requests_of: returns the requests of a step to its proxy; None: they are not known.

        Raises:
            UserError: the definition cannot be written.
        """
        id = outcome.ids.get(key)
        solve = next((one for one in self.solves if id in one.results), None)
        pins = _Pins(origins, requests_of)
        if solve is None or solve.request is None:
            # The client put it together: what it had before may be in there.
            known = (self.lookups, *(one.lookups for one in self.solves))
            images = _for_platform([i for some in known for i in some.images], outcome, key)
            sources = await sources_of([result, *self._others(outcome)], pins, images)
            for lookups in known:
                sources.merge(await _sources_of(lookups, pins))
            document: dict[str, Any] = {"configSource": {}, "request": {}}
        else:
            images = _for_platform(solve.lookups.images, outcome, key)
            sources = await sources_of([result], pins, images)
            sources.merge(await _sources_of(solve.lookups, pins))
            root = self.root.document(sources) if self.root else None
            document = with_root(solve.request.document(sources), root)
        lookups = solve.lookups if solve is not None else Lookups()
        return Facts(
            document=document,
            sources=sources,
            definition=_definition(origins, result, lookups) if full else None,
            platform=native_platform(),
            dockerfile_version=DOCKERFILE_VERSION,
            machine=self._machine,
            invocation=self._invocation,
            started=self.started,
            finished=self.started,
        )

    def _others(self, outcome: Outcome) -> Iterable[Vertex]:
        """The vertices of answers that the outcome does not name."""
        named = set(outcome.ids.values())
        for one in self.solves:
            for id, vertex in one.results.items():
                if id not in named:
                    yield vertex


def _definition(origins: Origins, result: Vertex, lookups: Lookups) -> DescribedSteps:
    from pybuild.buildkit.llb.steps import describe, local_vertex

    queries = origins.queries(
        vertex.op for vertex in walk(result) if isinstance(vertex.op, LocalSource)
    )
    origin = lookups.vertices[-1] if lookups.vertices else None  # nothing is fetched after it
    for directory, files in lookups.files.items():
        origin, its_own = local_vertex(directory, *files)
        queries = {**its_own, **queries}
        break
    return describe(result, origins.files, origin, queries)


async def _sources_of(lookups: Lookups, pins: _Pins) -> UsedSources:
    sources = await sources_of(lookups.vertices, pins)
    sources.locals |= lookups.files.keys()
    return sources


def _for_platform(
    lookups: Iterable[tuple[ImageRequest, Digest]], outcome: Outcome, key: str
) -> list[UsedImage]:
    """Leave out images that were looked up for the other platforms of the outcome."""
    own = dict(outcome.platforms).get(key)
    known = [
        (request, UsedImage(request.reference, request.platform, digest, bool(request.layout)))
        for request, digest in dict.fromkeys(lookups)
    ]
    if own is None or len(outcome.platforms) < 2:
        return [image for _, image in known]
    platforms = {(platform.os, platform.arch) for _, platform in outcome.platforms}
    has: dict[str, set[tuple[str, str]]] = {}
    for request, _ in known:
        pair = (request.platform.os, request.platform.arch)
        has.setdefault(str(request.reference), set()).add(pair)
    return [
        image
        for request, image in known
        if not platforms <= has[str(request.reference)]
        or (request.platform.os, request.platform.arch) == (own.os, own.arch)
    ]


class _Pins:
    def __init__(self, origins: Origins, requests_of: RequestsOf) -> None:
        self._origins = origins
        self._requests_of = requests_of

    async def commit(self, op: GitSource) -> str:
        return (await self._origins.sources.git.resolve(op)).commit

    async def sha256(self, op: HttpSource) -> str:
        return (await self._origins.sources.http.file(op)).sha256

    def local_name(self, op: LocalSource) -> str:
        return self._origins.client_name(op)

    def requests(self, vertex: Vertex) -> StepRequests | None:
        return self._requests_of(vertex)
