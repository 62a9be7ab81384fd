"""Errors with types: the details of `google.rpc.Status`, there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb import rpcstatus
from pybuild.buildkit.pb.details import (
    Detail,
    ExitDetail,
    FaultDetail,
    FrontendCapDetail,
    FrontendDetail,
    MaterialsDetail,
    RefusalDetail,
    SolveDetail,
    SourceDetail,
    SubrequestDetail,
    VertexDetail,
    details_of,
    encode,
    utf8,
)
from pybuild.buildkit.pb.ops import SourceInfo
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

__all__ = [
    "Detail",
    "ExitDetail",
    "FaultDetail",
    "FrontendCapDetail",
    "FrontendDetail",
    "MaterialsDetail",
    "RefusalDetail",
    "SolveDetail",
    "SourceDetail",
    "SubrequestDetail",
    "VertexDetail",
    "details_of",
    "encode",
    "error_of",
    "parse_status",
    "source_details",
    "status_of",
]

# gRPC's numbers of what we use them for.
_CANCELLED, _UNKNOWN, _INTERNAL = 1, 2, 13


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
    infos: Mapping[str, SourceInfo] | None = None,
    code: int | None = None,
) -> rpcstatus.Status:
    """Return the status that a client gets for *error*, with its lines and its exit code.

    Args:
        details: further ones, such as the vertex; put behind the source.
        files: whole files that the error's spans may name; its own `sources` come first.
        definition: where they came from, as serialized ops.
        infos: what clients say of files that they read themselves.
        code: gRPC's; by default 2 for all that is not ours, whose text clients show unprefixed.
    """
    message = str(error)
    own: list[Detail] = []
    if isinstance(error, PybuildError):
        message = error.peer or error.message
        sources = source_details(error, files or {})
        own += [
            _informed(source, definition, (infos or {}).get(source.filename)) for source in sources
        ]
    if isinstance(error, StepError):
        own.append(ExitDetail(error.status))
    if isinstance(error, PybuildError):
        kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "")
        said = utf8(error.message) if error.peer else ""
        if kind or error.hints or said:
            own.append(FaultDetail(kind, tuple(utf8(hint) for hint in error.hints), said))
    if code is None:
        code = _code_of(error)
    status = rpcstatus.Status(code=code, message=utf8(message))
    status.details.extend(encode(detail) for detail in (*own, *details))
    return status


def _code_of(error: BaseException) -> int:
    match error:
        case Cancelled():
            return _CANCELLED
        case UserError() | EnvironmentFault():
            return _UNKNOWN
        case _:
            return _INTERNAL


def _informed(
    source: SourceDetail, definition: tuple[bytes, ...], info: SourceInfo | None
) -> SourceDetail:
    if info is None:
        return replace(source, definition=definition)
    ops = tuple(info.definition.defs)
    return replace(source, definition=ops, language=info.language)


def source_details(error: PybuildError, files: Mapping[str, bytes]) -> list[SourceDetail]:
    """Return the error's places in the order in which it names them.

    Lines of one file that are named behind each other are one place.
    """
    out: list[SourceDetail] = []
    for name, spans in groupby(error.spans, lambda span: span.file):
        named = list(spans)
        own = error.sources.get(name)
        data = files.get(name, b"") if own is None else utf8("\n".join(own) + "\n").encode()
        lines = tuple((span.first_line, span.last_line) for span in named)
        out.append(SourceDetail(name, lines, data, column=named[0].column))
    return out


def error_of(status: rpcstatus.Status) -> PybuildError:
    """Return a server's error as one of ours."""
    details = details_of(status)
    sources = [detail for detail in details if isinstance(detail, SourceDetail)]
    spans = [Span(s.filename, first, last) for s in sources for first, last in s.ranges]
    exits = [detail.code for detail in details if isinstance(detail, ExitDetail)]
    fault = next((detail for detail in details if isinstance(detail, FaultDetail)), FaultDetail())
    shown = {s.filename: s.data.decode("utf-8", "replace").splitlines() for s in sources if s.data}
    kind: Callable[..., PybuildError]
    if status.code == _CANCELLED:
        kind = Cancelled
    elif exits:
        kind = partial(StepError, status=exits[0])
    elif fault.kind in _KINDS:
        kind = _KINDS[fault.kind]
    else:
        kind = UserError if status.code == _UNKNOWN or spans else EnvironmentFault
    message, peer = (fault.message, status.message) if fault.message else (status.message, "")
    return kind(message, spans=spans, hints=fault.hints, sources=shown, peer=peer)


def parse_status(data: bytes) -> rpcstatus.Status | None:
    """Read ``grpc-status-details-bin``; None if it is no status."""
    try:
        return rpcstatus.Status.FromString(data)
    except DecodeError:
        return None
