"""Faults of the client, as errors of a build."""

from __future__ import annotations

from pybuild.model.errors import Cancelled, EnvironmentFault, PybuildError, UserError
from pybuild.net.grpc.status import Code, RpcError

_GONE = (Code.UNAVAILABLE, Code.CANCELLED)


def failed(doing: str, error: RpcError) -> PybuildError:
    """Return the error of a build for a call back that ended badly.

    Args:
        doing: the build's request, such as "read context".
    """
    if error.code in _GONE:
        return Cancelled(f"{doing}: the client has gone: {error.message}")
    if error.code in (Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.INTERNAL):
        return EnvironmentFault(f"{doing}: {error.message}")
    return UserError(f"{doing}: {error.message}")
