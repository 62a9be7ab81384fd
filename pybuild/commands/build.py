"""``pybuild build``."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from typing import Any

from pybuild import memo
from pybuild.config import Settings, load_settings
from pybuild.engine import Engine, Prepared
from pybuild.host import platforms_from
from pybuild.model.errors import Cancelled, UsageError
from pybuild.model.events import Event, VertexAdded, VertexCached, VertexCompleted
from pybuild.model.ops import (
    Copy,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    LocalSource,
    NetworkMode,
    OciLayoutSource,
    Op,
    walk,
)
from pybuild.model.reference import Reference
from pybuild.options import Parsed
from pybuild.progress.display import Display, make_display
from pybuild.request import (
    BuildRequest,
    Output,
    parse_agents,
    parse_contexts,
    parse_hosts,
    parse_output,
    parse_pairs,
    parse_secret,
    parse_size,
    parse_ulimits,
)
from pybuild.result import BuildResult

_COMMIT = re.compile(r"[0-9a-f]{40}\Z|[0-9a-f]{64}\Z")


def main(parsed: Parsed) -> int:
    """Run one build as the command line asks for it; returns the exit code."""
    import uvloop

    request = request_from(parsed)
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    quiet = parsed.flag("quiet")
    kind = "quiet" if quiet else parsed.one("progress", os.environ.get("BUILDKIT_PROGRESS", "auto"))
    display = make_display(kind)
    try:
        result = uvloop.run(_build(request, settings, parsed, display))
    finally:
        display.close()
    _write_results(parsed, result)
    if quiet:
        sys.stdout.write(f"{result.image_id or ''}\n")
    return 0


async def _build(
    request: BuildRequest, settings: Settings, parsed: Parsed, display: Display
) -> BuildResult:
    shown: list[Event] = []

    def emit(event: Event) -> None:
        if isinstance(event, VertexAdded | VertexCached | VertexCompleted):
            shown.append(event)
        display.show(event)

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with Engine(settings) as engine:
            prepared = await engine.prepare(request, emit)
            signed = await _sign(parsed, prepared)
            result = await engine.build(prepared, emit)
            if signed is not None:
                await asyncio.to_thread(_remember, engine, parsed, prepared, signed, result, shown)
            return result
    except asyncio.CancelledError:
        raise Cancelled("context canceled") from None


def request_from(parsed: Parsed) -> BuildRequest:
    """Check every value of the command line.

    Raises:
        UsageError: the first one that is wrong.
    """
    outputs = [parse_output(text) for text in parsed.many("output")]
    tags = tuple(_reference(text) for text in parsed.many("tag"))
    if parsed.flag("push"):
        outputs = _with_push(outputs)
    if parsed.flag("load") and not any(output.type == "image" for output in outputs):
        outputs.append(Output(type="image"))
    wants_push = any(o.type == "registry" or o.flag("push") for o in outputs)
    if wants_push and not tags and not any(o.attrs.get("name") for o in outputs):
        raise UsageError("tag is needed when pushing to registry", hints=["name the image with -t"])
    network = parsed.one("network", "default")
    if network not in set(NetworkMode):
        raise UsageError(f'invalid network mode: "{network}": one of default, none, host')
    args = parse_pairs(parsed.many("build-arg"), "build-arg", from_environment=True)
    if "SOURCE_DATE_EPOCH" in os.environ:
        args.setdefault("SOURCE_DATE_EPOCH", os.environ["SOURCE_DATE_EPOCH"])
    secrets = [parse_secret(text) for text in parsed.many("secret")]
    filters = [name for text in parsed.many("no-cache-filter") for name in text.split(",")]
    return BuildRequest(
        context=parsed.positionals[0],
        dockerfile=parsed.one("file"),
        target=parsed.one("target"),
        build_args=args,
        named_contexts=parse_contexts(parsed.many("build-context")),
        platforms=platforms_from(parsed.one("platform")),
        tags=tags,
        outputs=tuple(outputs),
        no_cache=parsed.flag("no-cache"),
        no_cache_filter=frozenset(name.lower() for name in filters if name),
        pull=parsed.flag("pull"),
        labels=parse_pairs(parsed.many("label"), "label", from_environment=False),
        network=NetworkMode(network),
        add_hosts=parse_hosts(parsed.many("add-host")),
        ulimits=parse_ulimits(parsed.many("ulimit")),
        shm_size_bytes=parse_size(parsed.one("shm-size"), "shm-size")
        if parsed.one("shm-size")
        else 0,
        secrets={secret.id: secret for secret in secrets},
        ssh=parse_agents(parsed.many("ssh")),
        allow=frozenset(parsed.many("allow")),
    )


def _with_push(outputs: list[Output]) -> list[Output]:
    """``--push`` fills in an image output or adds a registry output [BLD-9]."""
    if any(output.type == "registry" for output in outputs):
        return outputs
    for index, output in enumerate(outputs):
        if output.type == "image":
            pushed = Output(type="image", attrs={**output.attrs, "push": "true"})
            return [*outputs[:index], pushed, *outputs[index + 1 :]]
    return [*outputs, Output(type="registry")]


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise UsageError(f'invalid tag "{text}": {error}') from error


def _write_results(parsed: Parsed, result: BuildResult) -> None:
    iidfile = parsed.one("iidfile")
    if iidfile and result.image_id:
        _write(iidfile, result.image_id)
    metadata = parsed.one("metadata-file")
    if metadata:
        _write(metadata, json.dumps(result.metadata, indent=2) + "\n")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


# --- the memo that makes the next build fast (pybuild/memo.py) -------------------------------------


async def _sign(parsed: Parsed, prepared: Prepared) -> list[dict[str, Any]] | None:
    """The state of every context before any of it is read; None when no memo can be kept.

    Signed before the build reads files: a file that changes while it is read then has a newer stamp
    than the memo, so the memo does not hold.
    """
    request = prepared.request
    plain = not request.outputs or all(o.type == "image" and not o.attrs for o in request.outputs)
    fresh = request.no_cache or request.no_cache_filter or request.pull
    if not plain or fresh or request.secrets or request.ssh or memo.key_of(parsed) is None:
        return None
    if any(_may_move(vertex.op) for vertex in walk(*(one.result for one in prepared.lowered))):
        return None
    contexts: list[dict[str, Any]] = []
    for name, prefixes in sorted(_prefixes(prepared).items()):
        tree = prepared.inputs.trees[name]
        args = (tree.path, sorted(prefixes), list(tree.exclude))
        signed = await asyncio.to_thread(memo.sign_context, *args)
        if signed is None:
            await asyncio.sleep(0.06)  # a file was touched this very moment: let the clock tick
            signed = await asyncio.to_thread(memo.sign_context, *args)
        if signed is None:
            return None
        contexts.append(signed)
    return contexts


def _may_move(op: Op) -> bool:
    """Whether a source must be asked each time: no file of ours tells that it is another now."""
    match op:
        case HttpSource(checksum=checksum):
            return checksum is None
        case GitSource(ref=ref, checksum=checksum, fetch_by_commit=by_commit):
            return _COMMIT.match(checksum if by_commit else ref) is None
        case _:
            return isinstance(op, OciLayoutSource)


def _prefixes(prepared: Prepared) -> dict[str, set[str]]:
    """Which parts of each local source the definition can read at all."""
    found: dict[str, set[str]] = {}
    for vertex in walk(*(one.result for one in prepared.lowered)):
        match vertex.op:
            case FileOp(actions=actions):
                paths = [(a.input, a.source) for a in actions if isinstance(a, Copy)]
            case ExecOp(mounts=mounts):
                paths = [(m.input, m.selector) for m in mounts if m.input is not None]
            case _:
                continue
        for index, path in paths:
            source = vertex.inputs[index].op
            if isinstance(source, LocalSource):
                root = prepared.inputs.trees[source.name].path
                found.setdefault(source.name, set()).add(_prefix(root, path))
    return found


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


def _remember(
    engine: Engine,
    parsed: Parsed,
    prepared: Prepared,
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
            "metadata": dict(result.metadata),
            "steps": list(steps.values()),
        },
    )
