"""SLSA provenance, versions 1 and 0.2, as builders of this kind write it [ATT-1, ATT-2]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from pybuild.buildkit.llb.described import DescribedSteps
from pybuild.exporter.attest.frontendrequest import scrubbed, take_vcs
from pybuild.exporter.attest.options import V02, Provenance
from pybuild.exporter.attest.sources import UncapturedRequest, UsedSources
from pybuild.image.config import format_time
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.platform import Platform

BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
BUILD_TYPE_V02 = "https://mobyproject.org/buildkit@v1"
PREDICATE_V1 = "https://slsa.dev/provenance/v1"
PREDICATE_V02 = "https://slsa.dev/provenance/v0.2"
DOCKERFILE_FRONTEND = "dockerfile.v0"
DOCKERFILE_VERSION = "1.26.0"
"""The version of the language that the frontend knows."""
_MOST_NAMED = 5
# Names that an operator's own entries may not have.
BUILTIN_KEYS = frozenset(("buildConfig", "builderPlatform", "dockerfileVersion", "platform"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts in the provenance of one result.

    Attributes:
        document: `FrontendRequest.document`, perhaps with the root request.
        definition: of ``mode=max``.
        layers: by step and output, ``step0:0``, the chains of layers it has as blobs.
        started, finished: seconds since the epoch.
        machine: the operator's entries about the machine.
    """

    document: dict[str, Any]
    sources: UsedSources
    definition: DescribedSteps | None = None
    layers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    platform: Platform
    dockerfile_version: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict[str, Any])
    invocation: str
    started: float
    finished: float


def predicate_type(options: Provenance) -> str:
    return PREDICATE_V02 if options.version == V02 else PREDICATE_V1


def predicate(facts: Facts, options: Provenance) -> dict[str, Any]:
    """Return the predicate in the version of *options*.

    Raises:
        UserError: not everything is known that was used, and that is not good enough.
    """
    if options.complete_materials and not facts.sources.complete:
        raise _incomplete(facts.sources)
    full = _v1(facts, options)
    return _v02(full) if options.version == V02 else full


def _v1(facts: Facts, options: Provenance) -> dict[str, Any]:
    sources = facts.sources
    document, vcs = take_vcs(facts.document)
    request: dict[str, Any] = {**document["request"], **sources.parameters()}
    document = {**document, "request": dict(sorted(request.items()))}
    complete = bool(request.get("frontend"))
    if not options.full:
        document, left_out = scrubbed(document)
        complete = complete and not left_out
    internal: dict[str, Any] = {"builderPlatform": str(facts.platform)}
    if request.get("frontend") == DOCKERFILE_FRONTEND and facts.dockerfile_version:
        internal["dockerfileVersion"] = facts.dockerfile_version
    internal |= {name: facts.machine[name] for name in sorted(facts.machine)}
    metadata: dict[str, Any] = {"vcs": dict(sorted(vcs.items()))} if vcs else {}
    if options.full and facts.definition is not None:
        definition = facts.definition
        if definition.steps:
            internal["buildConfig"] = {
                "llbDefinition": definition.steps,
                "digestMapping": dict(sorted(definition.digests.items())),
            }
        if definition.infos:
            metadata["source"] = {
                "locations": dict(definition.locations),
                "infos": definition.infos,
            }
        if facts.layers:
            metadata["layers"] = dict(facts.layers)
    if sources.proxied:
        metadata["network"] = _network(sources)
    run: dict[str, Any] = {
        "invocationId": facts.invocation,
        "startedOn": format_time(facts.started),
        "finishedOn": format_time(facts.finished),
        "buildkit_metadata": metadata,
        "buildkit_completeness": {
            "request": complete,
            "resolvedDependencies": sources.complete,
        },
    }
    if sources.complete and not sources.network:
        run["buildkit_hermetic"] = True
    if options.reproducible:
        run["buildkit_reproducible"] = True
    build: dict[str, Any] = {
        "buildType": BUILD_TYPE,
        "externalParameters": document,
        "internalParameters": internal,
    }
    materials = sources.materials()
    if materials:
        build["resolvedDependencies"] = materials
    builder = {"id": options.builder_id}
    return {"buildDefinition": build, "runDetails": {"builder": builder, "metadata": run}}


def _v02(full: dict[str, Any]) -> dict[str, Any]:
    """Say the same in the older words."""
    build, run = full["buildDefinition"], full["runDetails"]["metadata"]
    source = dict(build["externalParameters"]["configSource"])
    if "path" in source:
        source["entryPoint"] = source.pop("path")
    internal = dict(build["internalParameters"])
    config = internal.pop("buildConfig", None)
    environment = {"platform": internal.pop("builderPlatform"), **internal}
    complete = run["buildkit_completeness"]
    metadata: dict[str, Any] = {
        "buildInvocationID": run["invocationId"],
        "buildStartedOn": run["startedOn"],
        "buildFinishedOn": run["finishedOn"],
        "completeness": {
            "parameters": complete["request"],
            "environment": True,
            "materials": complete["resolvedDependencies"],
        },
        "reproducible": run.get("buildkit_reproducible", False),
        f"{BUILD_TYPE_V02}#metadata": run["buildkit_metadata"],
    }
    if run.get("buildkit_hermetic"):
        metadata[f"{BUILD_TYPE_V02}#hermetic"] = True
    predicate_v02: dict[str, Any] = {
        "builder": full["runDetails"]["builder"],
        "buildType": BUILD_TYPE_V02,
        "invocation": {
            "configSource": source,
            "parameters": build["externalParameters"]["request"],
            "environment": environment,
        },
        "metadata": metadata,
    }
    if "resolvedDependencies" in build:
        predicate_v02["materials"] = build["resolvedDependencies"]
    if config is not None:
        predicate_v02["buildConfig"] = config
    return predicate_v02


class IncompleteMaterials(UserError):
    """Not everything is known that was used, and that is not good enough.

    Attributes:
        locals: directories of the client; *uncaptured*: requests of steps.
    """

    locals: Sequence[str] = ()
    uncaptured: Sequence[UncapturedRequest] = ()


def _network(sources: UsedSources) -> dict[str, Any]:
    """Return the metadata about the network of a build whose steps had a proxy."""
    incomplete = [
        {
            name: value
            for name, value in (
                ("op", one.step),
                ("name", one.name),
                ("method", one.request.method),
                ("uri", one.request.url),
                ("reason", one.request.reason),
            )
            if value
        }
        for one in sources.uncaptured
    ]
    return {"mode": "proxy", **({"proxy": {"incomplete": incomplete}} if incomplete else {})}


def _incomplete(sources: UsedSources) -> UserError:
    error = _incomplete_error(sources)
    error.locals, error.uncaptured = sorted(sources.locals), sources.uncaptured
    return error


def _incomplete_error(sources: UsedSources) -> IncompleteMaterials:
    if sources.uncaptured and not sources.locals:
        requests = [
            f"{one.request.method} {one.request.url} ({one.request.reason})".strip()
            for one in sources.uncaptured
        ]
        more = f" and {len(requests) - _MOST_NAMED} more" if len(requests) > _MOST_NAMED else ""
        return IncompleteMaterials(
            f"provenance materials are incomplete: {', '.join(requests[:_MOST_NAMED])}{more}",
            hints=["what steps send, and answers that failed, are no materials"],
        )
    names = ", ".join(sorted(sources.locals)) or "an upload"
    return IncompleteMaterials(
        f"provenance materials are incomplete: {names} of the client cannot be recorded",
        hints=["build from a git repository, or leave out complete-materials"],
    )
