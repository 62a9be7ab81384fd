"""`grpc.health.v1.Health`: alive is healthy."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.daemon.grpc.calls import Call, Handler, unary
from pybuild.daemon.pb.health import HealthCheckResponse


def health() -> Mapping[str, Handler]:
    """Return the handlers by method."""

    async def check(data: bytes, call: Call) -> bytes:
        return HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()

    return {"/grpc.health.v1.Health/Check": unary(check)}
