"""The attestations of a build on this machine [ATT, BLD-18]."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pybuild.buildkit.llb.described import Definition
from pybuild.builds.contextkinds import ContextKind, kind_of
from pybuild.engine.host import native_platform
from pybuild.engine.progress import internal_step, named_only
from pybuild.exporter.attest.attestation import Attestation
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.options import AttestOptions, Provenance, Sbom
from pybuild.exporter.attest.predicate import DOCKERFILE_FRONTEND, DOCKERFILE_VERSION, Facts
from pybuild.exporter.attest.sbom import CORE, scan
from pybuild.exporter.attest.sources import Image, sources_of
from pybuild.exporter.attest.vcs import version_control
from pybuild.exporter.attest.write import provenance, provenance_document, unbundle
from pybuild.frontend.lowering.interface import ImageRequest, ResolvedImage
from pybuild.image.attestation import SPDX
from pybuild.model.errors import InternalError
from pybuild.model.events import BuildWarning, Emit, Event
from pybuild.model.ops import GitSource, HttpSource, LocalSource, ScratchSource, Vertex, walk
from pybuild.model.snapshot import Snapshot
from pybuild.model.stepoptions import attributes_of_settings

if TYPE_CHECKING:
    from pybuild.builds.prepare import Prepared
    from pybuild.builds.request import BuildRequest
    from pybuild.engine.engine import Engine
    from pybuild.executor.runner import BuildRunner
    from pybuild.executor.sources.remote import RemoteSources
    from pybuild.exporter.built import Built
    from pybuild.solver.solution import Solution

_METADATA = "buildx.build.provenance"
Describe = Callable[[Vertex, Mapping[str, bytes], Vertex | None], Definition]
"""Writes a result as LLB: the result, the files that its steps come from, and where these were."""


class Attestor:
    """Makes the attestations of one build that ran."""

    def __init__(
        self,
        engine: Engine,
        prepared: Prepared,
        runner: BuildRunner,
        solution: Solution,
        describe: Describe | None,
        emit: Emit,
    ) -> None:
        self._engine = engine
        self._prepared = prepared
        self._runner = runner
        self._solution = solution
        self._describe = describe
        self._emit = emit
        self._pins = _Pins(prepared.sources.remote)
        self._attested: dict[str, tuple[Provenance, Facts, Built]] = {}

    async def attest(self, built: Sequence[Built]) -> list[Built]:
        """Return the results with the requested attestations.

        Raises:
            PybuildError: a scan failed, or something cannot be said.
        """
        options = self._prepared.request.attestations
        if not options:
            return list(built)
        frontend_request = FrontendRequest(
            frontend=DOCKERFILE_FRONTEND, args=await _args(self._prepared.request)
        )
        options = self._ruled(options)
        scanner = await self._scanner(options.sbom) if options.sbom else None
        attested: list[Built] = []
        for one in built:
            attestations: list[Attestation] = []
            if options.sbom is not None and scanner is not None:
                attestations += await self._scan(options.sbom, scanner, one)
            if options.provenance is not None and not _is_nothing(one.lowered.result):
                attestations.append(
                    await self._provenance(options.provenance, frontend_request, one)
                )
            attested.append(replace(one, attestations=tuple(attestations)))
        return attested

    async def metadata(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return provenance for the metadata file, in short by default [BLD-30]."""
        mode = environ.get("BUILDX_METADATA_PROVENANCE", "").lower() or "min"
        if mode in ("disabled", "false", "0"):
            return {}
        metadata: dict[str, Any] = {}
        for key, (options, facts, one) in self._attested.items():
            name = f"{_METADATA}/{key}" if len(self._attested) > 1 else _METADATA
            metadata[name] = await asyncio.to_thread(
                provenance_document,
                self._engine,
                replace(options, full=options.full and mode == "max"),
                facts,
                one.lowered.result,
                one.snapshot.deltas,
                self._known,
            )
        return metadata

    def _ruled(self, options: AttestOptions) -> AttestOptions:
        policies = self._prepared.request.policies
        if not policies or options.sbom is None:
            return options
        from pybuild.frontend.lowering.policies import ruled_image

        generator = ruled_image(policies, options.sbom.generator)
        return replace(options, sbom=replace(options.sbom, generator=generator))

    async def _scanner(self, sbom: Sbom) -> ResolvedImage:
        title = f"[internal] load metadata for {sbom.generator}"
        async with internal_step(title, self._emit, self._engine.clock):
            request = ImageRequest(sbom.generator, native_platform())
            pull = self._prepared.request.pull
            return await self._engine.images.resolve(request, pull=pull)

    async def _scan(self, sbom: Sbom, scanner: ResolvedImage, one: Built) -> list[Attestation]:
        vertex = scan(
            sbom,
            scanner,
            name=str(one.lowered.platform),
            core=one.lowered.result,
            extras=one.lowered.scans,
            ignore_cache=self._prepared.request.no_cache,
        )
        emit = named_only(self._scan_events())
        solution = await self._engine.solver.solve([vertex], self._runner, emit)
        result = solution.of(vertex).result
        if not isinstance(result, Snapshot):
            raise InternalError("a scan left no directory")
        return await unbundle(self._engine, result.deltas, "/", SPDX, CORE)

    def _scan_events(self) -> Emit:
        """Return a listener for a scan that leaves out the steps of the build, seen before."""
        announced = {
            vertex.digest for vertex in walk(*(one.result for one in self._prepared.lowered))
        }

        def emit(event: Event) -> None:
            if isinstance(event, BuildWarning) or event.vertex not in announced:
                self._emit(event)

        return emit

    async def _provenance(
        self, options: Provenance, frontend_request: FrontendRequest, one: Built
    ) -> Attestation:
        prepared, result = self._prepared, one.lowered.result
        inputs, request = prepared.inputs, prepared.request
        targets = [result] if inputs.context is None else [result, inputs.context]
        images = [
            Image(looked_up.reference, looked_up.platform, digest, bool(looked_up.layout))
            for looked_up, digest in prepared.lookups.images
            if _serves(looked_up, one, len(request.platforms))
        ]
        sources = await sources_of(targets, self._pins, images)
        if inputs.context is None:
            sources.locals.add("context")
        if inputs.context is None or os.path.isabs(request.dockerfile):
            sources.locals.add("dockerfile")
        definition = None
        if options.full and self._describe is not None:
            files = {inputs.filename: inputs.dockerfile}
            definition = self._describe(result, files, inputs.context)
        facts = Facts(
            document=frontend_request.document(sources),
            sources=sources,
            definition=definition,
            platform=native_platform(),
            dockerfile_version=DOCKERFILE_VERSION,
            invocation=os.urandom(12).hex(),
            started=prepared.started,
            finished=prepared.started,
        )
        self._attested[str(one.lowered.platform)] = (options, facts, one)
        return provenance(self._engine, options, facts, result, one.snapshot.deltas, self._known)

    def _known(self, vertex: Vertex) -> tuple[str, ...] | None:
        solved = self._solution.get(vertex)
        if solved is None or not isinstance(solved.result, Snapshot):
            return None
        return solved.result.deltas


def _is_nothing(vertex: Vertex) -> bool:
    return isinstance(vertex.op, ScratchSource)


def _serves(looked_up: ImageRequest, one: Built, platforms: int) -> bool:
    """Whether an image was looked up for this result: with several, each has its own."""
    own = one.lowered.platform
    other = (looked_up.platform.os, looked_up.platform.arch) != (own.os, own.arch)
    return not other or platforms < 2


async def _args(request: BuildRequest) -> dict[str, str]:
    """Return the request as attributes of the frontend."""
    args: dict[str, str] = {}
    args |= {f"build-arg:{name}": value for name, value in request.build_args.items()}
    args |= {f"label:{name}": value for name, value in request.labels.items()}
    args |= {f"context:{name}": value for name, value in request.named_contexts.items()}
    args["filename"] = os.path.basename(request.dockerfile) or "Dockerfile"
    if request.target:
        args["target"] = request.target
    if request.no_cache:
        args["no-cache"] = ""
    elif request.no_cache_filter:
        args["no-cache"] = ",".join(sorted(request.no_cache_filter))
    args |= attributes_of_settings(request.steps)
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


class _Pins:
    def __init__(self, sources: RemoteSources) -> None:
        self._sources = sources

    async def commit(self, op: GitSource) -> str:
        return (await self._sources.git.resolve(op)).commit

    async def sha256(self, op: HttpSource) -> str:
        return (await self._sources.http.file(op)).sha256

    def local_name(self, op: LocalSource) -> str:
        return op.name
