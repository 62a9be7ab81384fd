"""Lends secrets of this machine to a build server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pybuild.buildkit.pb.secrets import GetSecretRequest, GetSecretResponse
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
_MOST = 500 << 10


def secrets(known: Mapping[str, Callable[[], bytes]]) -> dict[str, Handler]:
    """Answer for *known*, by id; each is read in a thread when it is asked for."""

    async def get(data: bytes, call: IncomingCall) -> bytes:
        del call
        id = GetSecretRequest.FromString(data).ID
        read = known.get(id)
        if read is None:
            raise RpcError(Code.NOT_FOUND, f"secret {id} not found")
        try:
            value = await asyncio.to_thread(read)
        except OSError as error:
            raise RpcError(Code.UNKNOWN, f"cannot read secret {id}: {error.strerror}") from error
        if len(value) > _MOST:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"secret {id} is longer than {_MOST} bytes")
        return GetSecretResponse(data=value).SerializeToString()

    return {METHOD: unary(get)}
