"""A definition as provenance shows it: numbered steps, with the ops as the Go library's JSON has them.

Fields that are not set are left out, numbers are numbers, bytes are base64, and what is one of
several kinds stands below a key of its own.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from pybuild.buildkit.llb.described import DescribedSteps
from pybuild.buildkit.llb.queries import LocalQuery
from pybuild.buildkit.llb.write import WriteOptions, written
from pybuild.buildkit.pb import ops as pb
from pybuild.model.digest import Digest
from pybuild.model.ops import LocalSource, OciLayoutSource, Vertex, walk
from pybuild.model.secrets import without_secrets

# Kinds of something that the library puts below this key, also where there is none.
_KINDS = {"Op": "Op", "FileAction": "Action", "UserOpt": "User"}
_RENAMED = {("UserOpt", "byID"): "byId"}
_WITH_URLS = ("SourceOp", "ProxyEnv")
_NEVER_LEFT_OUT = {"FileAction": ("input", "secondaryInput", "output")}


def describe(
    result: Vertex,
    files: Mapping[str, bytes],
    origin: Vertex | None = None,
    locals: Mapping[str, LocalQuery] | None = None,
) -> DescribedSteps:
    """Return the steps that make *result*.

    Args:
        files: contents of the files that spans name.
        origin: the vertex that these files were read from.
        locals: the queries of the client's directories, by the names of their sources.

    Raises:
        UserError: something in it cannot be said in LLB.
    """
    options = WriteOptions(
        files=files, layouts=_layouts(result), locals=_without_sessions(locals or {})
    )
    definition, edges = written(result, options)
    numbers, steps = _steps(definition)
    names = {digest: f"step{number}" for digest, number in numbers.items()}
    outputs = {
        vertex: f"{names[edge.digest]}:{edge.index}"
        for vertex, edge in edges.items()
        if edge is not None and edge.digest in names
    }
    locations = {
        names[digest]: _plain(where)
        for digest, where in definition.Source.locations.items()
        if digest in names
    }
    return DescribedSteps(
        steps=steps,
        digests=names,
        infos=_infos(definition, origin, options),
        locations=dict(sorted(locations.items())),
        outputs=outputs,
    )


def _infos(
    definition: pb.Definition, origin: Vertex | None, options: WriteOptions
) -> list[dict[str, Any]]:
    infos: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    steps: list[dict[str, Any]] = []
    if origin is not None and len(definition.Source.infos):
        source, _ = written(origin, WriteOptions(layouts=_layouts(origin), locals=options.locals))
        numbers, steps = _steps(source)
    for info in definition.Source.infos:
        entry: dict[str, Any] = {
            "filename": info.filename,
            "language": info.language,
            "data": _base64(info.data),
        }
        if steps:
            entry["llbDefinition"] = steps
            entry["digestMapping"] = {digest: f"step{n}" for digest, n in sorted(numbers.items())}
        infos.append(entry)
    return infos


def _layouts(result: Vertex) -> dict[str, str]:
    """Name the layouts by their paths: no client has to find them by that."""
    ops = (vertex.op for vertex in walk(result))
    return {op.path: op.path for op in ops if isinstance(op, OciLayoutSource)}


def _without_sessions(locals: Mapping[str, LocalQuery]) -> dict[str, LocalQuery]:
    from dataclasses import replace

    return {name: replace(query, session="") for name, query in locals.items()}


def local_vertex(name: str, *paths: str) -> tuple[Vertex, dict[str, LocalQuery]]:
    """Return a vertex for some files of the client's directory *name*, and its query."""
    query = LocalQuery(dir_name=name, follow=paths, shared_key=name)
    return Vertex(LocalSource(name=name)), {name: query}


# --- steps ----------------------------------------------------------------------------------------


def _steps(definition: pb.Definition) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Number the ops, inputs first, and return them; nothing where there is no op."""
    if not len(definition.defs):
        return {}, []
    ops: dict[str, pb.Op] = {}
    last = ""
    for data in definition.defs:
        last = str(Digest.of(data))
        ops[last] = pb.Op.FromString(data)
    numbers: dict[str, int] = {}
    stack = [(last, False)]
    while stack:
        digest, inputs_done = stack.pop()
        if digest in numbers:
            continue
        if inputs_done:
            numbers[digest] = len(numbers)
            continue
        stack.append((digest, True))
        stack.extend((item.digest, False) for item in reversed(ops[digest].inputs))
    steps: list[dict[str, Any]] = []
    for digest, number in numbers.items():
        op = ops[digest]
        inputs = [f"step{numbers[item.digest]}:{item.index}" for item in op.inputs]
        op.ClearField("inputs")
        step: dict[str, Any] = {"id": f"step{number}", "op": _plain(op)}
        if inputs:
            step["inputs"] = inputs
        steps.append(step)
    return numbers, steps


# --- JSON -----------------------------------------------------------------------------------------


def _plain(message: Message) -> dict[str, Any]:
    kind = str(message.DESCRIPTOR.name)
    plain: dict[str, Any] = dict.fromkeys(_NEVER_LEFT_OUT.get(kind, ()), 0)
    below = _KINDS.get(kind)
    inner: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = _RENAMED.get((kind, field.name), field.name)
        place = inner if below and field.containing_oneof is not None else plain
        place[name] = _value(value)
    if kind in _WITH_URLS:
        plain = _masked(plain)
    if below:
        plain[below] = inner
    return plain


def _value(value: Any) -> Any:
    match value:
        case Message():
            return _plain(value)
        case bytes():
            return _base64(value)
        case str() | int() | float():
            return value
        case Mapping():
            entries: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
            return {str(key): _value(entries[key]) for key in sorted(entries)}
        case _:
            return [_value(item) for item in value]


def _masked(entry: dict[str, Any]) -> dict[str, Any]:
    """Keep credentials in URLs to ourselves."""
    masked: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, str):
            masked[name] = without_secrets(value)
        else:
            masked[name] = {key: without_secrets(text) for key, text in value.items()}
    return masked


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
