"""Errors with types: what `google.rpc.Status` says beyond its text, there and back.

Each detail travels as JSON under the name that Go clients look for; its keys are proto field names,
empty values are left out, bytes are base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from google.protobuf.message import DecodeError

from pybuild.daemon.pb import rpcstatus, wellknown
from pybuild.model.errors import (
    Cancelled,
    EnvironmentFault,
    InternalError,
    PybuildError,
    StepError,
    UsageError,
    UserError,
)
from pybuild.model.span import Span

_PREFIX = "github.com/moby/buildkit/"
_OWN = "pybuild/"
_MOST_LINES = 100
# gRPC's numbers of what we use them for.
_CANCELLED, _UNKNOWN, _INTERNAL = 1, 2, 13


@dataclass(frozen=True, slots=True)
class SourceDetail:
    """Where in a file it happened.

    Attributes:
        data: the whole file, so that a client can print the lines; empty where it is not known.
        ranges: first and last line, both 1-based and included.
        definition: serialized ops of where the file came from.
    """

    filename: str
    ranges: tuple[tuple[int, int], ...]
    data: bytes = b""
    language: str = "Dockerfile"
    definition: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class VertexDetail:
    """The step that failed, by the digest that progress calls it."""

    digest: str


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
class ExitDetail:
    """The exit code of a process."""

    code: int


@dataclass(frozen=True, slots=True)
class FaultDetail:
    """What only a client of ours understands: who can mend it, and how. Others ignore it.

    Attributes:
        kind: of `_KINDS`; empty where the code tells.
    """

    kind: str = ""
    hints: tuple[str, ...] = ()


Detail = (
    SourceDetail
    | VertexDetail
    | FrontendDetail
    | FrontendCapDetail
    | SubrequestDetail
    | ExitDetail
    | FaultDetail
)
_KINDS: dict[str, type[PybuildError]] = {
    "environment": EnvironmentFault,
    "internal": InternalError,
    "usage": UsageError,
}


def status_of(
    error: BaseException,
    *,
    details: Iterable[Detail] = (),
    files: Mapping[str, bytes] | None = None,
    definition: tuple[bytes, ...] = (),
    code: int | None = None,
) -> rpcstatus.Status:
    """Return what a client is told of *error*, its lines and its exit code included.

    Args:
        details: what is known beyond the error, such as the vertex; put behind the source.
        files: whole files that the error's spans may name; its own `sources` come first.
        definition: where they came from, as serialized ops.
        code: gRPC's; by default 2 for all that is not ours, whose text clients show unprefixed.
    """
    message = error.message if isinstance(error, PybuildError) else str(error)
    found: list[Detail] = []
    if isinstance(error, PybuildError):
        sources = source_details(error, files or {})
        found += [replace(source, definition=definition) for source in sources]
    if isinstance(error, StepError):
        found.append(ExitDetail(error.status))
    if isinstance(error, PybuildError):
        kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "")
        if kind or error.hints:
            found.append(FaultDetail(kind, tuple(_text(hint) for hint in error.hints)))
    if code is None:
        code = _code_of(error)
    status = rpcstatus.Status(code=code, message=_text(message))
    status.details.extend(encode(detail) for detail in (*found, *details))
    return status


def _code_of(error: BaseException) -> int:
    match error:
        case Cancelled():
            return _CANCELLED
        case UserError() | EnvironmentFault():
            return _UNKNOWN
        case _:
            return _INTERNAL


def source_details(error: PybuildError, files: Mapping[str, bytes]) -> list[SourceDetail]:
    """Return the error's lines, one entry a file, in the order in which it names them."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for span in error.spans:
        ranges.setdefault(span.file, []).append((span.first_line, span.last_line))
    out: list[SourceDetail] = []
    for name, lines in ranges.items():
        own = error.sources.get(name)
        data = files.get(name, b"") if own is None else _text("\n".join(own) + "\n").encode()
        out.append(SourceDetail(name, tuple(lines), data))
    return out


def error_of(status: rpcstatus.Status) -> PybuildError:
    """Return the error that a server told us of, as one of ours."""
    details = details_of(status)
    sources = [detail for detail in details if isinstance(detail, SourceDetail)]
    spans = [Span(s.filename, first, last) for s in sources for first, last in s.ranges]
    exits = [detail.code for detail in details if isinstance(detail, ExitDetail)]
    fault = next((detail for detail in details if isinstance(detail, FaultDetail)), FaultDetail())
    error: PybuildError
    if status.code == _CANCELLED:
        error = Cancelled(status.message, spans=spans)
    elif exits:
        error = StepError(status.message, status=exits[0], spans=spans)
    elif fault.kind in _KINDS:
        error = _KINDS[fault.kind](status.message, spans=spans)
    elif status.code == _UNKNOWN or spans:
        error = UserError(status.message, spans=spans)
    else:
        error = EnvironmentFault(status.message, spans=spans)
    error.hints = fault.hints
    error.sources = {
        s.filename: s.data.decode("utf-8", "replace").splitlines() for s in sources if s.data
    }
    return error


def parse_status(data: bytes) -> rpcstatus.Status | None:
    """Read ``grpc-status-details-bin``; None for what is no status."""
    try:
        return rpcstatus.Status.FromString(data)
    except DecodeError:
        return None


# --- details --------------------------------------------------------------------------------------


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
                "filename": _text(detail.filename),
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
            return "errdefs.Source", _present({"info": _present(info), "ranges": ranges})
        case VertexDetail():
            return "errdefs.Vertex", _present({"digest": detail.digest})
        case FrontendDetail():
            return "errdefs.Frontend", _present({"name": detail.name, "source": detail.source})
        case FrontendCapDetail():
            return "errdefs.FrontendCap", _present({"name": _text(detail.name)})
        case SubrequestDetail():
            return "errdefs.Subrequest", _present({"name": _text(detail.name)})
        case ExitDetail():
            return "gatewayapi.ExitMessage", _present({"Code": detail.code})
        case FaultDetail():
            return "errors.Fault", _present({"kind": detail.kind, "hints": list(detail.hints)})


def details_of(status: rpcstatus.Status) -> list[Detail]:
    """Return the details that we know, in order; what a peer garbled is left out."""
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
            return FaultDetail(fields.text("kind"), fields.texts("hints"))
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


def _text(value: str) -> str:
    """Make bytes that are no UTF-8, which we carry as surrogates, fit for a protobuf string."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
