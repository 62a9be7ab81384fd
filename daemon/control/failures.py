"""Errors for clients: message, code, the place where it happened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache

from pybuild.buildkit.llb.write import write
from pybuild.buildkit.pb.errors import (
    Detail,
    FrontendCapDetail,
    FrontendDetail,
    MaterialsDetail,
    RefusalDetail,
    SolveDetail,
    SubrequestDetail,
    VertexDetail,
    encode,
    status_of,
)
from pybuild.buildkit.pb.ops import SourceInfo
from pybuild.buildkit.pb.stacks import stacks_of
from pybuild.daemon.frontend.attrs import UnsupportedCap
from pybuild.daemon.frontend.subrequests import UnknownRequest
from pybuild.daemon.session.verdicts import SourceRefused
from pybuild.exporter.attest.predicate import IncompleteMaterials
from pybuild.model.errors import PybuildError, unwrap
from pybuild.model.ops import LocalSource, Vertex
from pybuild.net.grpc.status import Code, RpcError


@cache
def _dockerfile_source() -> tuple[bytes, ...]:
    """The definition of the client's directory that Dockerfiles come from."""
    return tuple(write(Vertex(LocalSource(name="dockerfile"))).defs)


def rpc_error(
    error: Exception,
    frontend: str = "",
    files: Mapping[str, bytes] | None = None,
    vertex: str = "",
    infos: Mapping[str, SourceInfo] | None = None,
    step: SolveDetail | None = None,
) -> RpcError:
    """Return *error* as clients read it.

    Args:
        vertex: the step that failed; *step* is what there is to be seen of it.
    """
    cause = unwrap(error)
    if isinstance(cause, RpcError):
        return cause
    if isinstance(cause, asyncio.CancelledError):
        return RpcError(Code.CANCELLED, "context canceled")
    details: list[Detail] = []
    code: int | None = None
    if isinstance(cause, UnsupportedCap):
        details.append(FrontendCapDetail(cause.name))
        code = Code.UNIMPLEMENTED
    if isinstance(cause, UnknownRequest):
        details.append(SubrequestDetail(cause.name))
        code = Code.UNIMPLEMENTED
    if isinstance(cause, SourceRefused) and cause.reasons:
        details.append(RefusalDetail(cause.reasons))
    if isinstance(cause, IncompleteMaterials):
        details.append(_materials(cause))
    if vertex:
        details.append(VertexDetail(vertex))
    if step is not None:
        details.append(step)
    if frontend:
        details.append(FrontendDetail(frontend))
    status = status_of(
        cause,
        details=details,
        files=files,
        definition=_dockerfile_source(),
        infos=infos,
        code=code,
    )
    known = isinstance(cause, PybuildError)
    message = status.message if known else f"internal error: {type(cause).__name__}: {cause}"
    brief = status.SerializeToString()
    status.details.extend(encode(stack) for stack in stacks_of(cause))
    return RpcError(Code(status.code), message, status.SerializeToString(), brief)


def _materials(error: IncompleteMaterials) -> MaterialsDetail:
    local = [{"name": name, "reason": "local_source"} for name in error.locals]
    requests = [
        {
            "op": one.step,
            "name": one.name,
            "method": one.request.method,
            "uri": one.request.url,
            "reason": one.request.reason,
        }
        for one in error.uncaptured
    ]
    return MaterialsDetail((*local, *requests))
