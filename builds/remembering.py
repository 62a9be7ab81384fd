"""Keeps the memo of a build that went well, which makes the next one fast (`pybuild.builds.memo`)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

from pybuild.builds import memo
from pybuild.builds.contextkinds import origin_of
from pybuild.builds.definition import local_reads
from pybuild.builds.prepare import PreparedBuild
from pybuild.builds.recording import facts_of
from pybuild.builds.result import BuildResult
from pybuild.engine.engine import Engine
from pybuild.exporter.annotations import is_attribute
from pybuild.frontend.syntax.stepnotes import MAX_AGE, mentions
from pybuild.model.events import Event, VertexAdded, VertexCompleted
from pybuild.model.ops import (
    GitSource,
    HttpSource,
    OciLayoutSource,
    Op,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.builds.manymemos import Looks
    from pybuild.builds.memo import CommandLine
    from pybuild.builds.request import BuildRequest
    from pybuild.cache.store import Store
    from pybuild.exporter.output import Output
    from pybuild.model.descriptor import Descriptor

_COARSE_CLOCK = 5  # that files are stamped with: Linux's CLOCK_REALTIME_COARSE
_MOST_TICKS = 10

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
    shown_by_files = all(map(_is_shown_by_files, request.outputs))
    fresh = request.no_cache or request.no_cache_filter or request.max_ages or request.pull
    if (
        not shown_by_files
        or fresh
        or request.breaks
        or request.attestations
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


def _is_shown_by_files(output: Output) -> bool:
    """Whether files of this machine, and one question to a registry, show that the output is as the build left it."""
    match output.type:
        case "image" | "registry":
            return all(name == "push" or is_attribute(name) for name in output.attrs)
        case "oci" | "docker" | "tar" | "local":
            return output.dest not in ("", "-")
        case kind:
            return kind == "cacheonly"


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
    outputs = prepared.request.outputs
    written, pushed = _states_of(outputs), _pushed(engine, prepared.request, result)
    if key is None or written is None or pushed is None:
        return
    store = engine.store
    is_kept = prepared.request.is_kept
    image = result.image if is_kept else None
    if is_kept and image is None:
        return
    is_made = any(output.type == "cacheonly" for output in outputs)
    layers = [store.deltas.path(id) for id in result.layers] if is_made else []
    if not all(map(os.path.isdir, layers)):
        return
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
    sizes = {} if image is None else _blobs_of(store, image)
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
            "layers": layers,
            "outputs": written,
            "pushed": pushed,
            "is_kept": is_kept,
            "image": result.image and result.image.to_json(),
            "image_id": result.image_id,
            "names": list(result.names),
            "origin": origin_of(prepared.request),
            "metadata": dict(result.metadata),
            "steps": list(steps.values()),
            "facts": facts_of(prepared.request),
        },
    )


def _blobs_of(store: Store, image: Descriptor) -> dict[str, int]:
    """Return the sizes of an image's blobs by their digests."""
    sizes = {str(image.digest): image.size}
    manifests: list[str] = [image.digest]
    for digest in manifests:
        document = json.loads(store.blobs.read(digest))
        children = document.get("manifests", [])
        manifests += [child["digest"] for child in children]
        parts = [*children, *filter(None, [document.get("config")]), *document.get("layers", [])]
        sizes |= {part["digest"]: part["size"] for part in parts}
    return sizes


def _pushed(
    engine: Engine, request: BuildRequest, result: BuildResult
) -> list[tuple[str, str, str, str]] | None:
    """Return where registries have the result, as `pybuild.registry.client.standing` asks for it.

    None where one of them is not spoken to in the clear, or another output makes an image that may differ.
    """
    pushed: list[tuple[str, str, str, str]] = []
    if not any(output.pushes for output in request.outputs):
        return pushed
    if result.image is None or sum(output.is_image for output in request.outputs) > 1:
        return None
    for name in request.tags:
        netloc = engine.client().in_the_clear(name.host)
        if not netloc:
            return None
        path = f"/v2/{name.path}/manifests/{name.tag}"
        pushed.append((netloc, path, result.image.media_type, result.image.digest))
    return pushed


def _states_of(outputs: Sequence[Output]) -> list[tuple[str, str]] | None:
    """Return the files and directories that outputs were written to, with their states; None: one is not known."""
    states: list[tuple[str, str]] = []
    for path in (os.path.abspath(output.dest) for output in outputs if output.dest):
        state = settled_state(path)
        if state is None:
            return None
        states.append((path, state))
    return states


def settled_state(path: str) -> str | None:
    """Return the state of what was just written, looked at when the kernel's clock had gone on since.

    Whatever is written after that look has another time than what was there.
    """
    for _ in range(_MOST_TICKS):
        began = time.clock_gettime_ns(_COARSE_CLOCK)
        try:
            state, newest = memo.output_state(path)
        except (OSError, ValueError):
            return None
        if newest % 1_000_000_000 == 0 and memo.is_young(newest, began):
            return None  # of a file system that keeps whole seconds
        if newest < began:
            return state
        time.sleep(0.002)
    return None
