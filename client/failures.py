"""Makes errors of ours of a server's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pybuild.buildkit.pb.errors import VertexDetail, details_of, error_of, parse_status
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.client.events import StatusReader
from pybuild.model.errors import EnvironmentFault, PybuildError, StepError
from pybuild.net.grpc.status import Code, RpcError


def failure(
    error: RpcError,
    reader: StatusReader | None = None,
    filenames: Mapping[str, str] | None = None,
) -> PybuildError:
    """Return the error that a build in this process would have raised.

    Args:
        reader: has the last output of the step that failed.
        filenames: people's names of files, by the server's names.
    """
    status = parse_status(error.details) if error.details else None
    if status is None and error.code is Code.UNAVAILABLE:
        return EnvironmentFault(f"lost the build server: {error.message}")
    if status is None or not status.code:
        status = Status(code=error.code, message=error.message)
    failed = error_of(status)
    names = filenames or {}
    failed = failed.copy_with(
        spans=tuple(replace(s, file=names.get(s.file, s.file)) for s in failed.spans),
        sources={names.get(name, name): lines for name, lines in failed.sources.items()},
    )
    if reader is not None and isinstance(failed, StepError):
        vertices = [d.digest for d in details_of(status) if isinstance(d, VertexDetail)]
        vertex = vertices[0] if vertices else reader.failed
        if vertex:
            return failed.copy_with(log_tail=tuple(reader.tail(vertex)), step=reader.name(vertex))
    return failed
