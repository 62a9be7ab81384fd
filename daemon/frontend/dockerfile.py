"""The Dockerfile frontend for clients of the server: reads by their session, answers references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from pybuild.buildkit.gatewayconfig import gateway_config
from pybuild.buildkit.journal import Teller
from pybuild.buildkit.llb.write import WriteOptions, write
from pybuild.buildkit.pb.ops import Definition as LlbDefinition
from pybuild.buildkit.wirerules import in_protocol_words
from pybuild.builds.attestations import Scanner
from pybuild.builds.definition import local_reads, lower_options
from pybuild.builds.lowering import Lowering, warnings_of
from pybuild.builds.verdicts import decided_of
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.frontend.attrs import Attrs, default_platform
from pybuild.daemon.frontend.definition import ReadDockerfile, read_definition
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.offered import sbom_of
from pybuild.daemon.frontend.results import CONFIG, EPOCH, PLATFORMS, Result, platforms_document
from pybuild.daemon.frontend.subrequests import answer_subrequest, check_request
from pybuild.engine.host import native_platform
from pybuild.exporter.attest.sbom import CORE
from pybuild.frontend.lowering.contexts import NamedContexts
from pybuild.frontend.lowering.frontends import frontend_image
from pybuild.frontend.lowering.interface import FrontendImage, Lowered
from pybuild.frontend.syntax.ast import Dockerfile
from pybuild.image.attestation import SPDX
from pybuild.model.dataclass import dataclass
from pybuild.model.events import BuildWarning
from pybuild.model.ops import (
    LocalSource,
    OciLayoutSource,
    Vertex,
    walk,
)
from pybuild.model.platform import Platform


@dataclass(frozen=True, slots=True)
class FrontendAnswer:
    """The frontend's result; *lowered* by the id of the tree that it belongs to."""

    result: Result
    lowered: Mapping[str, Lowered] = field(default_factory=dict[str, Lowered])
    dockerfile: Dockerfile | None = None


async def solve_dockerfile(
    scope: Scope, attrs: Attrs, inputs: Mapping[str, Vertex], teller: Teller
) -> FrontendAnswer | FrontendImage:
    """Return one reference a platform, or the answer to a sub-request; nothing has run yet.

    Where the file is for another frontend, that one is returned.

    Raises:
        UserError: with the lines it is about. EnvironmentFault: something is out of reach.
    """
    definition = await read_definition(scope, attrs, inputs)
    scope.files[definition.filename] = definition.data
    if not attrs.any_frontend:
        contexts = NamedContexts(definition.contexts, definition.context_trees)
        file = (definition.data, definition.filename, attrs.build_args)
        image = frontend_image(*file, contexts, default_platform(attrs))
        if image is not None:
            return image
    check_request(attrs.request)
    return await _answer(scope, attrs, definition, teller)


async def _answer(
    scope: Scope, attrs: Attrs, definition: ReadDockerfile, teller: Teller
) -> FrontendAnswer:
    here = native_platform()
    platforms = attrs.platforms or (here,)
    lookup = scope.lookup(pull=attrs.pull)
    if attrs.request:
        options = lower_options(attrs, definition, default_platform(attrs), here)
        answering = partial(
            answer_subrequest, attrs, definition, options, lookup.outcomes, scope.in_thread
        )
        return FrontendAnswer(await decided_of(answering, scope.decide))

    def warn(warning: BuildWarning) -> None:
        teller.warn(
            in_protocol_words(warning), definition.vertex, definition.filename, definition.data
        )

    lowered: list[Lowered] = []
    lowering = Lowering(definition.data, definition.filename, lookup, warn)
    for platform in platforms:
        of_platform = await lowering.lower(lower_options(attrs, definition, platform, here))
        lowered.append(await scope.in_thread(partial(_owned, scope, of_platform)))
    scans = await _scans(scope, attrs, lowered)
    targets = [one.result for one in lowered] + [scan.vertex for scan in scans]
    scope.trees.will_use(await scope.in_thread(partial(used_paths, *targets)))
    for warning in warnings_of(lowered):
        warn(warning)
    answer = _result(scope, attrs, platforms, lowered)
    ids = [key for key, _ in answer.result.platforms()]
    offered = {key: (sbom_of(scan, CORE, SPDX),) for key, scan in zip(ids, scans, strict=False)}
    result = replace(answer.result, attestations=offered)
    return replace(answer, result=result, dockerfile=lowering.dockerfile)


def _owned(scope: Scope, lowered: Lowered) -> Lowered:
    scans = {name: scope.owned(vertex) for name, vertex in lowered.scans.items()}
    return replace(lowered, result=scope.owned(lowered.result), scans=scans)


async def _scans(scope: Scope, attrs: Attrs, lowered: Sequence[Lowered]) -> list[LazyTree]:
    """Return for each platform the tree that a scanner makes of it, if one is requested [ATT-3]."""
    sbom = attrs.attestations.sbom
    if sbom is None:
        return []
    scanner = Scanner(
        scope.engine,
        sbom,
        scope.emit,
        scope.policies,
        scope.decided,
        pull=attrs.pull,
        ignore_cache=attrs.no_cache,
    )
    steps = [await scanner.step(str(one.platform), one.result, one.scans) for one in lowered]
    return [LazyTree(step, scope.snapshot) for step in steps]


def _result(
    scope: Scope, attrs: Attrs, platforms: tuple[Platform, ...], lowered: list[Lowered]
) -> FrontendAnswer:
    references = [
        LazyTree(one.result, scope.snapshot, partial(define, scope, one.result)) for one in lowered
    ]
    metadata = {
        PLATFORMS: platforms_document([(str(one.platform), one.platform) for one in lowered])
    }
    by_id = {ref.id: one for ref, one in zip(references, lowered, strict=True)}
    if not attrs.multi_platform:
        metadata[CONFIG] = gateway_config(lowered[0])
        if lowered[0].epoch is not None:
            metadata[EPOCH] = str(lowered[0].epoch).encode()
        return FrontendAnswer(Result(single=references[0], metadata=metadata), by_id)
    many: dict[str, LazyTree | None] = {}
    for platform, reference, one in zip(platforms, references, lowered, strict=True):
        metadata[f"{CONFIG}/{platform}"] = gateway_config(one)
        if one.epoch is not None:
            metadata[f"{EPOCH}/{platform}"] = str(one.epoch).encode()
        many[str(platform)] = reference
    metadata[PLATFORMS] = platforms_document(
        [
            (str(requested), one.platform if requested.os == "windows" else requested)
            for requested, one in zip(platforms, lowered, strict=True)
        ]
    )
    return FrontendAnswer(Result(many=many, metadata=metadata), by_id)


def define(scope: Scope, result: Vertex) -> LlbDefinition:
    """Return the definition of a result in the client's terms."""
    ops = [vertex.op for vertex in walk(result)]
    options = WriteOptions(
        locals=scope.trees.queries(op for op in ops if isinstance(op, LocalSource)),
        layouts={
            op.path: op.path.partition("@")[0] for op in ops if isinstance(op, OciLayoutSource)
        },
        files=scope.files,
    )
    return write(result, options)


def used_paths(*targets: Vertex) -> dict[str, tuple[str, ...]]:
    """Return, by local source, the paths that copies and mounts name, sorted, wildcards included.

    An empty tuple is all of it.
    """
    by_source: dict[str, set[str]] = {}
    for source, path in local_reads(*targets):
        by_source.setdefault(source.name, set()).add(path.strip("/"))
    for target in targets:  # a directory that is the result itself
        if isinstance(target.op, LocalSource):
            by_source.setdefault(target.op.name, set()).add("")
    return {name: () if "" in paths else tuple(sorted(paths)) for name, paths in by_source.items()}
