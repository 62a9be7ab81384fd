"""Lends ssh agents of this machine to a build server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pybuild.buildkit.fsutil.packet import MalformedPacket
from pybuild.buildkit.pb.sshforward import CheckAgentRequest, CheckAgentResponse
from pybuild.buildkit.session.bytesmessage import unwrap, wrap
from pybuild.client.filesync import decoded
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/moby.sshforward.v1.SSH/"
_DEFAULT = "default"
_PIECE = 1 << 16


def ssh(sockets: Mapping[str, str]) -> dict[str, Handler]:
    """Forward to *sockets*, by id; their filters are not our matter."""

    async def check(data: bytes, call: IncomingCall) -> bytes:
        del call
        id = CheckAgentRequest.FromString(data).ID or _DEFAULT
        if id not in sockets:
            raise RpcError(Code.NOT_FOUND, f"unset ssh forward key {id}")
        return CheckAgentResponse().SerializeToString()

    async def forward(call: IncomingCall) -> None:
        id = (decoded(call.metadata, "buildkit.ssh.id") or [_DEFAULT])[0]
        path = sockets.get(id)
        if path is None:
            raise RpcError(Code.NOT_FOUND, f"unset ssh forward key {id}")
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise RpcError(Code.UNAVAILABLE, f"ssh agent {id}: {error.strerror}") from error
        await call.send_headers()

        async def downwards() -> None:
            while data := await reader.read(_PIECE):
                await call.send(wrap(data))

        down = asyncio.create_task(downwards())
        try:
            while (message := await call.receive()) is not None:
                writer.write(unwrap(message))
                await writer.drain()
            writer.write_eof()
            await down
        except (OSError, MalformedPacket) as error:
            raise RpcError(Code.UNKNOWN, f"ssh agent {id}: {error}") from error
        finally:
            down.cancel()
            await asyncio.gather(down, return_exceptions=True)
            writer.close()

    return {_SERVICE + "CheckAgent": unary(check), _SERVICE + "ForwardAgent": forward}
