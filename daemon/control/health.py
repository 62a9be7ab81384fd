"""`grpc.health.v1.Health`: alive is healthy."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.buildkit.pb.health import HealthCheckResponse
from pybuild.net.grpc.calls import Handler, IncomingCall, unary


def health() -> Mapping[str, Handler]:
    """Return the handlers by method."""

    async def check(data: bytes, call: IncomingCall) -> bytes:
        return HealthCheckResponse(status=HealthCheckResponse.SERVING).SerializeToString()

    return {"/grpc.health.v1.Health/Check": unary(check)}
