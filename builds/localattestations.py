"""The attestations that a build on this machine asks for, and its provenance for the metadata file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.builds.attestations import Attestor, Scanner
from pybuild.builds.contextkinds import ContextKind, kind_of
from pybuild.builds.frontendattrs import FRONTEND, frontend_attrs
from pybuild.builds.provenance import LookupLedger, Outcome, Solve
from pybuild.engine.host import native_platform
from pybuild.engine.progress import named_only
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.options import AttestOptions
from pybuild.exporter.attest.sbom import CORE
from pybuild.exporter.attest.vcs import version_control
from pybuild.exporter.attest.write import unbundle
from pybuild.image.attestation import SPDX
from pybuild.model.errors import InternalError
from pybuild.model.events import BuildWarning, Emit, Event
from pybuild.model.ops import LocalSource, walk
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.buildkit.llb.queries import LocalQuery
    from pybuild.builds.delivery import Solves
    from pybuild.builds.prepare import PreparedBuild
    from pybuild.builds.request import BuildRequest
    from pybuild.engine.engine import Engine
    from pybuild.executor.runner import BuildRunner
    from pybuild.executor.sources.remote import RemoteSources
    from pybuild.exporter.built import Built

_METADATA = "buildx.build.provenance"


class LocalAttestor:
    """Makes the attestations of one build that ran."""

    def __init__(
        self,
        engine: Engine,
        prepared: PreparedBuild,
        runner: BuildRunner,
        options: AttestOptions,
        emit: Emit,
    ) -> None:
        self.engine = engine
        self._prepared = prepared
        self._runner = runner
        self._options = options
        self._emit = emit
        self._attestor: Attestor | None = None

    @property
    def sources(self) -> RemoteSources:
        return self._prepared.sources.remote

    @property
    def files(self) -> Mapping[str, bytes]:
        inputs = self._prepared.inputs
        return {inputs.filename: inputs.dockerfile}

    def client_name(self, op: LocalSource) -> str:
        return op.name

    def queries(self, ops: Iterable[LocalSource]) -> Mapping[str, LocalQuery]:
        return {}

    async def attest(self, built: Sequence[Built], solves: Solves) -> list[Built]:
        """Return the results with the requested attestations.

        Raises:
            PybuildError: a scan failed, or something cannot be said.
        """
        prepared, request = self._prepared, self._prepared.request
        root = FrontendRequest(frontend=FRONTEND, args=await client_attrs(request))
        ledger = LookupLedger(root, prepared.started)
        results = {one.key: one.lowered.result for one in built}
        ledger.solves.append(Solve(request=root, results=results, lookups=prepared.lookups))
        platforms = request.platforms or (native_platform(),)
        outcome = Outcome(
            ids={key: key for key in results},
            platforms=[(str(platform), platform) for platform in platforms],
        )
        self._attestor = Attestor(self.engine, self, solves, ledger, outcome)
        scanner = None
        if self._options.sbom is not None:
            scanner = Scanner(
                self.engine,
                self._options.sbom,
                self._emit,
                request.policies,
                pull=request.pull,
                ignore_cache=request.no_cache,
            )

        async def lists(one: Built) -> list[Attestation]:
            return [] if scanner is None else await self._scan(scanner, one)

        return await self._attestor.attest(built, self._options.provenance, lists)

    async def metadata(self, built: Sequence[Built], environ: Mapping[str, str]) -> dict[str, Any]:
        """Return provenance for the metadata file, in short by default [BLD-30]."""
        mode = environ.get("BUILDX_METADATA_PROVENANCE", "").lower() or "min"
        options = self._options.provenance
        if mode in ("disabled", "false", "0") or options is None or self._attestor is None:
            return {}
        options = replace(options, full=options.full and mode == "max")
        documents = await self._attestor.documents(built, options)
        several = len(documents) > 1
        return {
            f"{_METADATA}/{key}" if several else _METADATA: document
            for key, document in documents.items()
        }

    async def _scan(self, scanner: Scanner, one: Built) -> list[Attestation]:
        lowered = one.lowered
        vertex = await scanner.step(str(lowered.platform), lowered.result, lowered.scans)
        emit = named_only(self._scan_events())
        solution = await self.engine.solver.solve([vertex], self._runner, emit)
        result = solution.of(vertex).result
        if not isinstance(result, Snapshot):
            raise InternalError("a scan left no directory")
        return await unbundle(self.engine, result.deltas, "/", SPDX, CORE)

    def _scan_events(self) -> Emit:
        """Return a listener for a scan that leaves out the steps of the build, seen before."""
        announced = {
            vertex.digest for vertex in walk(*(one.result for one in self._prepared.lowered))
        }

        def emit(event: Event) -> None:
            if isinstance(event, BuildWarning) or event.vertex not in announced:
                self._emit(event)

        return emit


async def client_attrs(request: BuildRequest) -> dict[str, str]:
    """Return the request as a client of a server makes it, with the places of its contexts."""
    args = frontend_attrs(request)
    args |= {f"context:{name}": value for name, value in request.named_contexts.items()}
    # Those whose content counts are named as directories of the client are.
    unkeyed = [volume for volume in request.volumes if not volume.in_key]
    args |= {f"volume:{volume.target}": volume.access.value for volume in unkeyed}
    args["filename"] = os.path.basename(request.dockerfile) or "Dockerfile"
    match kind_of(request.context):
        case ContextKind.DIRECTORY:
            args |= await version_control(request.context, os.environ)
        case ContextKind.GIT | ContextKind.HTTP:
            args["context"] = request.context
            if request.dockerfile:
                args["filename"] = request.dockerfile
        case ContextKind.STANDARD_INPUT:
            pass
    return args
