"""Keeps the memo of a build that went well, which makes the next one fast (`pybuild.builds.memo`)."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Any

from pybuild.builds import memo
from pybuild.builds.contextkinds import origin_of
from pybuild.builds.prepare import PreparedBuild
from pybuild.builds.recording import facts_of
from pybuild.builds.result import BuildResult
from pybuild.builds.stepnotes import MAX_AGE, mentions
from pybuild.engine.engine import Engine
from pybuild.exporter.annotations import is_attribute
from pybuild.model.events import Event, VertexAdded, VertexCompleted
from pybuild.model.ops import (
    GitSource,
    HttpSource,
    OciLayoutSource,
    Op,
    local_reads,
    walk,
)

if TYPE_CHECKING:
    from pybuild.builds.manymemos import Looks
    from pybuild.builds.memo import CommandLine

_COMMIT = re.compile(r"[0-9a-f]{40}\Z|[0-9a-f]{64}\Z")


async def sign(
    parsed: CommandLine, prepared: PreparedBuild, looks: Looks | None = None
) -> list[dict[str, Any]] | None:
    """The state of every context before any of it is read; None when no memo can be kept.

    Args:
        looks: those of several builds, which share the parts of contexts that they read.

    Signed before the build reads files: a file that changes while it is read then has a newer stamp
    than the memo, so the memo does not hold.
    """
    request = prepared.request
    plain = all(o.type == "image" and all(map(is_attribute, o.attrs)) for o in request.outputs)
    fresh = request.no_cache or request.no_cache_filter or request.pull or request.attestations
    if (
        not plain
        or fresh
        or request.ignore_from_git
        or request.policies
        or request.secrets
        or any(not volume.in_key for volume in request.volumes)
        or request.ssh
        or memo.key_of(parsed) is None
    ):
        return None
    if mentions(prepared.dockerfile.lines, MAX_AGE):
        return None
    if any(_may_move(vertex.op) for vertex in walk(*(one.result for one in prepared.lowered))):
        return None
    if any(_may_move(source.op) for source in prepared.epochs):
        return None
    contexts: list[dict[str, Any]] = []
    for name, prefixes in sorted(_prefixes(prepared).items()):
        tree = prepared.inputs.trees[name]
        parts = [sorted(prefixes)] if looks is None else [[one] for one in sorted(prefixes)]
        for part in parts:
            signed = await _signed(looks, tree.path, part, list(tree.exclude))
            if signed is None:
                return None
            contexts.append(signed)
    return contexts


async def _signed(
    looks: Looks | None, path: str, prefixes: list[str], exclude: list[str]
) -> dict[str, Any] | None:
    sign_context = memo.sign_context if looks is None else looks.sign_context
    signed = await asyncio.to_thread(sign_context, path, prefixes, exclude)
    if signed is None:
        await asyncio.sleep(0.06)  # a file was touched this very moment: let the clock tick
        signed = await asyncio.to_thread(sign_context, path, prefixes, exclude)
    return signed


def _may_move(op: Op) -> bool:
    """Whether a source must be asked each time: no file of ours shows that it has changed."""
    match op:
        case HttpSource(checksum=checksum):
            return checksum is None
        case GitSource(ref=ref, checksum=checksum, fetch_by_commit=by_commit):
            return _COMMIT.match(checksum if by_commit else ref) is None
        case _:
            return isinstance(op, OciLayoutSource)


def _prefixes(prepared: PreparedBuild) -> dict[str, set[str]]:
    """The parts of each local source that the definition can read at all."""
    prefixes: dict[str, set[str]] = {}
    for source, path in local_reads(*(one.result for one in prepared.lowered)):
        root = prepared.inputs.trees[source.name].path
        prefixes.setdefault(source.name, set()).add(_prefix(root, path))
    return prefixes


def _prefix(root: str, path: str) -> str:
    """The literal start of *path*; all of the context where a link might lead elsewhere in it."""
    literal: list[str] = []
    for part in path.strip("/").split("/"):
        if any(char in part for char in "*?[\\"):
            break
        if os.path.islink(os.path.join(root, *literal, part)):
            return ""
        literal.append(part)
    return "/".join(literal)


def remember(
    engine: Engine,
    parsed: CommandLine,
    prepared: PreparedBuild,
    contexts: list[dict[str, Any]],
    result: BuildResult,
    shown: list[Event],
) -> None:
    key = memo.key_of(parsed)
    if key is None or result.image is None or result.image_id is None:
        return
    store = engine.store
    steps: dict[str, list[str]] = {}
    for event in shown:
        match event:
            case VertexAdded(vertex=vertex, name=name):
                steps[vertex] = [name, "CACHED"]
            case VertexCompleted(vertex=vertex) if steps[vertex][0].startswith(
                ("[internal]", "exporting")
            ):
                steps[vertex][1] = "DONE 0.0s"
            case _:
                pass
    sizes = {result.image.digest: result.image.size}
    manifests: list[str] = [result.image.digest]
    for digest in manifests:
        document = json.loads(store.blobs.read(digest))
        children = document.get("manifests", [])
        manifests += [child["digest"] for child in children]
        parts = [*children, *filter(None, [document.get("config")]), *document.get("layers", [])]
        sizes |= {part["digest"]: part["size"] for part in parts}
    resolutions: list[tuple[str, str]] = []
    bases: list[tuple[str, str]] = []
    for request, digest, is_local in engine.images.used:
        if is_local:
            bases.append((str(request.reference), digest))
        else:
            path = engine.images.resolutions.path(request.reference, request.platform)
            resolutions.append((path, digest))
    memo.save(
        engine.settings.root,
        key,
        {
            "files": [
                (path, memo.file_digest(data))
                for path, data in sorted(prepared.inputs.files.items())
            ],
            "contexts": contexts,
            "resolutions": resolutions,
            "bases": bases,
            "present": [(store.blobs.path(digest), size) for digest, size in sizes.items()],
            "image": result.image.to_json(),
            "image_id": result.image_id,
            "names": list(result.names),
            "origin": origin_of(prepared.request),
            "metadata": dict(result.metadata),
            "steps": list(steps.values()),
            "facts": facts_of(prepared.request),
        },
    )
