"""Details of errors beyond their text, each as JSON under the name that Go clients look for.

Its keys are proto field names, empty values are left out, bytes are base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pybuild.buildkit.pb import ops as pb
from pybuild.buildkit.pb import rpcstatus, wellknown
from pybuild.model.dataclass import dataclass

_PREFIX = "github.com/moby/buildkit/"
_OWN = "pybuild/"
_MOST_LINES = 100


@dataclass(frozen=True, slots=True)
class SourceDetail:
    """The place in a file where it happened.

    Attributes:
        data: the whole file, so that a client can print the lines; empty where it is not known.
        ranges: first and last line, both 1-based and included.
        definition: serialized ops of the file's source.
        column: where the first range begins, in its line.
    """

    filename: str
    ranges: tuple[tuple[int, int], ...]
    data: bytes = b""
    language: str = "Dockerfile"
    definition: tuple[bytes, ...] = ()
    column: int = 0


@dataclass(frozen=True, slots=True)
class VertexDetail:
    """The step that failed, by the digest that progress calls it."""

    digest: str


@dataclass(frozen=True, slots=True)
class SolveDetail:
    """The op that failed, with references to trees of the build; "" is none.

    Attributes:
        inputs: per mount, the tree that was mounted; of a file op, per input.
        mounts: per mount, the same as the step left it; of a file op, per action.
        description: facts about the op outside of it.
        action: the number of a file op's action that failed.
        unread: the number of the input that has not what the op reads of it; *inputs* is that alone.
    """

    inputs: tuple[str, ...]
    mounts: tuple[str, ...]
    op: pb.Op
    description: Mapping[str, str]
    action: int | None = None
    unread: int | None = None


@dataclass(frozen=True, slots=True)
class FrontendDetail:
    """The frontend that failed; *source* is an external one's image."""

    name: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class FrontendCapDetail:
    """A value of ``frontend.caps`` that we do not have."""

    name: str


@dataclass(frozen=True, slots=True)
class SubrequestDetail:
    """A value of ``requestid`` that we do not have."""

    name: str


@dataclass(frozen=True, slots=True)
class RefusalDetail:
    """Why policies of the client let a source not be used, in their words."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MaterialsDetail:
    """The sources that provenance does not know: fields of each by name."""

    incomplete: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class ExitDetail:
    """The exit code of a process."""

    code: int


@dataclass(frozen=True, slots=True)
class FaultDetail:
    """The hints and the kind of an error, for clients of ours; others ignore it.

    Attributes:
        kind: of `_KINDS`; empty where the code is enough.
        message: our wording, where the status has BuildKit's.
    """

    kind: str = ""
    hints: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True)
class StackFrame:
    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class StackDetail:
    """The place in a process's code where it happened, the innermost frame first."""

    frames: tuple[StackFrame, ...]
    command: tuple[str, ...]
    pid: int
    version: str


Detail = (
    SourceDetail
    | StackDetail
    | VertexDetail
    | SolveDetail
    | FrontendDetail
    | FrontendCapDetail
    | SubrequestDetail
    | RefusalDetail
    | MaterialsDetail
    | ExitDetail
    | FaultDetail
)


def encode(detail: Detail) -> wellknown.Any:
    """Return the detail as it travels."""
    name, value = _encoded(detail)
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    prefix = _OWN if isinstance(detail, FaultDetail) else _PREFIX
    return wellknown.Any(type_url=f"{prefix}{name}+json", value=data.encode())


def _encoded(detail: Detail) -> tuple[str, dict[str, Any]]:
    match detail:
        case SourceDetail():
            info: dict[str, Any] = {
                "filename": utf8(detail.filename),
                "data": base64.b64encode(detail.data).decode(),
                "language": detail.language,
            }
            if detail.definition:
                ops = [base64.b64encode(op).decode() for op in detail.definition]
                info = {**info, "definition": {"def": ops}}
            # A range for each line: that is how clients mark them.
            ranges = [
                {"start": {"line": line}, "end": {"line": line}}
                for first, last in detail.ranges
                for line in range(first, min(last, first + _MOST_LINES) + 1)
            ]
            if detail.column and ranges:
                ranges[0]["start"]["character"] = detail.column
            return "errdefs.Source", _present({"info": _present(info), "ranges": ranges})
        case VertexDetail():
            return "errdefs.Vertex", _present({"digest": detail.digest})
        case SolveDetail():
            from google.protobuf.json_format import MessageToDict  # for steps that failed alone

            op: dict[str, Any] = MessageToDict(
                detail.op, preserving_proto_field_name=True, use_integers_for_enums=True
            )
            subject: dict[str, Any] = {}
            if detail.action is not None:
                subject = {"file": {"index": detail.action}}
            elif detail.unread is not None:
                subject = {"cache": {"index": detail.unread}}
            return "errdefs.Solve", {
                "inputIDs": list(detail.inputs),
                "mountIDs": list(detail.mounts),
                "op": op,
                "description": {utf8(k): utf8(v) for k, v in detail.description.items()},
                **subject,
            }
        case FrontendDetail():
            return "errdefs.Frontend", _present({"name": detail.name, "source": detail.source})
        case FrontendCapDetail():
            return "errdefs.FrontendCap", _present({"name": utf8(detail.name)})
        case SubrequestDetail():
            return "errdefs.Subrequest", _present({"name": utf8(detail.name)})
        case RefusalDetail():
            messages = [{"message": utf8(reason)} for reason in detail.reasons]
            return "policysession.DecisionResponse", {"action": 1, "denyMessages": messages}
        case MaterialsDetail():
            rows = [{key: utf8(text) for key, text in one.items()} for one in detail.incomplete]
            return "errdefs.ProvenanceMaterialsIncomplete", {"incomplete": rows}
        case ExitDetail():
            return "gatewayapi.ExitMessage", _present({"Code": detail.code})
        case StackDetail():
            frames = [
                _present({"Name": f.name, "File": f.file, "Line": f.line}) for f in detail.frames
            ]
            stack: dict[str, Any] = {"frames": frames, "cmdline": list(detail.command)}
            return "stack.Stack", {**stack, "pid": detail.pid, "version": detail.version}
        case FaultDetail():
            return "errors.Fault", _present(
                {"kind": detail.kind, "hints": list(detail.hints), "message": detail.message}
            )


def details_of(status: rpcstatus.Status) -> list[Detail]:
    """Return the details that we know, in order; garbled ones are left out."""
    out: list[Detail] = []
    for item in status.details:
        name = item.type_url.removeprefix(_PREFIX).removeprefix(_OWN).removesuffix("+json")
        try:
            value: object = json.loads(item.value)
            if isinstance(value, dict):
                detail = _decoded(name, _Fields(cast(dict[str, Any], value)))
                if detail is not None:
                    out.append(detail)
        except (ValueError, RecursionError):
            continue
    return out


class _Fields:
    """A peer's JSON object: absent is zero, and another type than expected is a ValueError."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value

    def text(self, name: str) -> str:
        value = self._value.get(name, "")
        if not isinstance(value, str):
            raise ValueError(f"{name} is no text")
        return value

    def number(self, name: str) -> int:
        value = self._value.get(name, 0)
        if type(value) is not int:
            raise ValueError(f"{name} is no number")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        items = self._value.get(name, [])
        if not isinstance(items, list):
            raise ValueError(f"{name} is no list")
        return tuple(_Fields({name: item}).text(name) for item in cast(list[object], items))

    def data(self, name: str) -> bytes:
        return base64.b64decode(self.text(name), validate=True)

    def object(self, name: str) -> _Fields:
        value = self._value.get(name, {})
        if not isinstance(value, dict):
            raise ValueError(f"{name} is no object")
        return _Fields(cast(dict[str, Any], value))

    def objects(self, name: str) -> list[_Fields]:
        items = self._value.get(name, [])
        if not isinstance(items, list):
            raise ValueError(f"{name} is no list")
        return [_Fields({name: item}).object(name) for item in cast(list[object], items)]


def _decoded(name: str, fields: _Fields) -> Detail | None:
    match name:
        case "errdefs.Source":
            info = fields.object("info")
            return SourceDetail(
                info.text("filename"),
                _joined(
                    (r.object("start").number("line"), r.object("end").number("line"))
                    for r in fields.objects("ranges")
                ),
                info.data("data"),
                info.text("language"),
            )
        case "errdefs.Vertex":
            return VertexDetail(fields.text("digest"))
        case "errdefs.Frontend":
            return FrontendDetail(fields.text("name"), fields.text("source"))
        case "errdefs.FrontendCap":
            return FrontendCapDetail(fields.text("name"))
        case "errdefs.Subrequest":
            return SubrequestDetail(fields.text("name"))
        case "gatewayapi.ExitMessage":
            return ExitDetail(fields.number("Code"))
        case "errors.Fault":
            return FaultDetail(fields.text("kind"), fields.texts("hints"), fields.text("message"))
        case _:
            return None


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join ranges of which one begins right behind the other."""
    out: list[tuple[int, int]] = []
    for first, last in ranges:
        if out and out[-1][1] + 1 == first:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return tuple(out)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def utf8(value: str) -> str:
    """Make bytes that are no UTF-8, which we carry as surrogates, fit for a protobuf string."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
