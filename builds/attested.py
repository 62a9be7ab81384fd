"""What a build of the command line has attested of its results [ATT, BLD-18]."""

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
from pybuild.exporter.attest.options import Provenance, Sbom, Wanted
from pybuild.exporter.attest.predicate import DOCKERFILE_FRONTEND, DOCKERFILE_VERSION, Facts
from pybuild.exporter.attest.request import Asked
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
        self._pins = _Pins(prepared.session.sources)
        self._told: dict[str, tuple[Provenance, Facts, Built]] = {}

    async def attest(self, built: Sequence[Built]) -> list[Built]:
        """Return the results with what was asked to be said of them.

        Raises:
            PybuildError: a scan failed, or something cannot be said.
        """
        wanted = self._prepared.request.attestations
        if not wanted:
            return list(built)
        asked = Asked(frontend=DOCKERFILE_FRONTEND, args=await _args(self._prepared.request))
        wanted = self._ruled(wanted)
        scanner = await self._scanner(wanted.sbom) if wanted.sbom else None
        found: list[Built] = []
        for one in built:
            attestations: list[Attestation] = []
            if wanted.sbom is not None and scanner is not None:
                attestations += await self._scan(wanted.sbom, scanner, one)
            if wanted.provenance is not None and not _is_nothing(one.lowered.result):
                attestations.append(await self._provenance(wanted.provenance, asked, one))
            found.append(replace(one, attestations=tuple(attestations)))
        return found

    async def metadata(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return what the metadata file says of provenance, in short unless told otherwise [BLD-30]."""
        mode = environ.get("BUILDX_METADATA_PROVENANCE", "").lower() or "min"
        if mode in ("disabled", "false", "0"):
            return {}
        found: dict[str, Any] = {}
        for key, (options, facts, one) in self._told.items():
            name = f"{_METADATA}/{key}" if len(self._told) > 1 else _METADATA
            found[name] = await asyncio.to_thread(
                provenance_document,
                self._engine,
                replace(options, full=options.full and mode == "max"),
                facts,
                one.lowered.result,
                one.snapshot.deltas,
                self._known,
            )
        return found

    def _ruled(self, wanted: Wanted) -> Wanted:
        policies = self._prepared.request.policies
        if not policies or wanted.sbom is None:
            return wanted
        from pybuild.frontend.lowering.policies import ruled_image

        generator = ruled_image(policies, wanted.sbom.generator)
        return replace(wanted, sbom=replace(wanted.sbom, generator=generator))

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
        emit = named_only(self._news())
        solution = await self._engine.solver.solve([vertex], self._runner, emit)
        result = solution.of(vertex).result
        if not isinstance(result, Snapshot):
            raise InternalError("a scan left no directory")
        return await unbundle(self._engine, result.deltas, "/", SPDX, CORE)

    def _news(self) -> Emit:
        """What a scan tells, but for the steps of the build, which were told."""
        told = {vertex.digest for vertex in walk(*(one.result for one in self._prepared.lowered))}

        def emit(event: Event) -> None:
            if isinstance(event, BuildWarning) or event.vertex not in told:
                self._emit(event)

        return emit

    async def _provenance(self, options: Provenance, asked: Asked, one: Built) -> Attestation:
        prepared, result = self._prepared, one.lowered.result
        inputs, request = prepared.inputs, prepared.request
        targets = [result] if inputs.context is None else [result, inputs.context]
        images = [
            Image(wanted.reference, wanted.platform, image.digest, bool(wanted.layout))
            for wanted, image in prepared.images.items()
            if image.layer_count and _serves(wanted, one, len(request.platforms))
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
            document=asked.document(sources),
            sources=sources,
            definition=definition,
            platform=native_platform(),
            dockerfile_version=DOCKERFILE_VERSION,
            invocation=os.urandom(12).hex(),
            started=prepared.started,
            finished=prepared.started,
        )
        self._told[str(one.lowered.platform)] = (options, facts, one)
        return provenance(self._engine, options, facts, result, one.snapshot.deltas, self._known)

    def _known(self, vertex: Vertex) -> tuple[str, ...] | None:
        solved = self._solution.get(vertex)
        if solved is None or not isinstance(solved.result, Snapshot):
            return None
        return solved.result.deltas


def _is_nothing(vertex: Vertex) -> bool:
    return isinstance(vertex.op, ScratchSource)


def _serves(wanted: ImageRequest, one: Built, platforms: int) -> bool:
    """Whether an image was looked up for this result: with several, each has its own."""
    own = one.lowered.platform
    other = (wanted.platform.os, wanted.platform.arch) != (own.os, own.arch)
    return not other or platforms < 2


async def _args(request: BuildRequest) -> dict[str, str]:
    """Say the request in the words of the frontend's attributes."""
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
    if request.network.value != "default":
        args["force-network-mode"] = request.network.value
    if request.add_hosts:
        args["add-hosts"] = ",".join(f"{name}={address}" for name, address in request.add_hosts)
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
