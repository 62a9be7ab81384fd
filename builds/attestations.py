"""The attestations of a build's results, before they go out [ATT, BLD-18]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.builds.provenance import LookupLedger, Origins, Outcome
from pybuild.builds.verdicts import Decided, in_place
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step
from pybuild.executor.proxies.record import facts_of
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.options import Provenance, Sbom
from pybuild.exporter.attest.sbom import scan
from pybuild.exporter.attest.sources import StepRequests
from pybuild.exporter.attest.write import provenance, provenance_document
from pybuild.frontend.lowering.interface import ImageRequest, Pull, ResolvedImage
from pybuild.frontend.lowering.policies import ruled_image
from pybuild.model.errors import PybuildError
from pybuild.model.events import Emit
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.policy import Policies

if TYPE_CHECKING:
    from pybuild.builds.delivery import Solves
    from pybuild.engine.engine import Engine
    from pybuild.exporter.built import Built

Lists = Callable[["Built"], Awaitable[list[Attestation]]]
"""Gives the attestations of a result that others make: lists of its contents, and a client's own."""


class Attestor:
    """Makes the attestations of one build that ran."""

    def __init__(
        self,
        engine: Engine,
        origins: Origins,
        solves: Solves,
        ledger: LookupLedger,
        outcome: Outcome,
    ) -> None:
        self._engine = engine
        self._origins = origins
        self._solves = solves
        self._known = solves.known
        self._ledger = ledger
        self._outcome = outcome

    async def attest(
        self, built: Sequence[Built], options: Provenance | None, lists: Lists
    ) -> list[Built]:
        """Return the results with *lists*, and their provenance where that is wanted.

        Raises:
            PybuildError: a scan failed, or something cannot be said.
        """
        attested: list[Built] = []
        for one in built:
            attestations = await lists(one)
            if options is not None and not is_nothing(one):
                attestations.append(await self._provenance(one, options))
            attested.append(replace(one, attestations=tuple(attestations)))
        return attested

    async def _provenance(self, one: Built, options: Provenance) -> Attestation:
        result = one.lowered.result
        facts = await self._ledger.facts(
            self._origins,
            self._outcome,
            one.key,
            result,
            full=options.full,
            requests_of=self._requests_of,
        )
        return provenance(self._engine, options, facts, result, one.snapshot.deltas, self._known)

    async def documents(
        self, built: Sequence[Built], options: Provenance
    ) -> dict[str, dict[str, Any]]:
        """Return the provenance of the results as of now, by their keys: for files and histories.

        A definition that LLB cannot say is no reason to say nothing: it is left out.
        """
        documents: dict[str, dict[str, Any]] = {}
        for one in built:
            if is_nothing(one):
                continue
            result = one.lowered.result
            facts = partial(
                self._ledger.facts,
                self._origins,
                self._outcome,
                one.key,
                result,
                requests_of=self._requests_of,
            )
            try:
                known_facts = await facts(full=options.full)
            except PybuildError:
                known_facts = await facts(full=False)
            documents[one.key] = await asyncio.to_thread(
                provenance_document,
                self._engine,
                options,
                known_facts,
                result,
                one.snapshot.deltas,
                self._known,
            )
        return documents

    def _requests_of(self, vertex: Vertex) -> StepRequests | None:
        """Return the requests of a step to its proxy, in this build or in the one that made its result."""
        deltas = self._known(vertex)
        if deltas is None and (key := self._solves.key(vertex)) is not None:
            record = self._engine.results.load(key)
            deltas = record.snapshot.deltas if record is not None else None
        return facts_of(self._engine.store.deltas.meta(deltas[-1])) if deltas else None


class Scanner:
    """Makes the steps that list what results contain; their image is found once.

    Args:
        policies: judge the image.
    """

    def __init__(
        self,
        engine: Engine,
        sbom: Sbom,
        emit: Emit,
        policies: Policies | None,
        decided: Decided = in_place,
        *,
        pull: Pull = False,
        ignore_cache: bool = False,
    ) -> None:
        self._engine = engine
        self._sbom = sbom
        self._emit = emit
        self._policies = policies
        self._decided = decided
        self._pull: Pull = pull
        self._ignore_cache = ignore_cache
        self._image: ResolvedImage | None = None

    async def step(self, name: str, core: Vertex, extras: Mapping[str, Vertex]) -> Vertex:
        """Return the step that scans *core*, to be shown as *name*, and stages and contexts beside it.

        Raises:
            UserError: there is no such scanner.
        """
        if self._image is None:
            self._image = await self._resolve()
        return scan(
            self._sbom,
            self._image,
            name=name,
            core=core,
            extras=extras,
            ignore_cache=self._ignore_cache,
        )

    async def _resolve(self) -> ResolvedImage:
        generator = self._sbom.generator
        if self._policies:
            ruling = partial(ruled_image, self._policies, generator, native_platform())
            generator = await self._decided(ruling)
            self._sbom = replace(self._sbom, generator=generator)
        title = f"[internal] load metadata for {generator}"
        async with internal_step(title, self._emit, self._engine.clock):
            request = ImageRequest(generator, native_platform())
            return await self._engine.images.resolve(request, pull=self._pull)


def is_nothing(one: Built) -> bool:
    """Whether a result has no step, so that there is nothing to attest."""
    return isinstance(one.lowered.result.op, ScratchSource)
