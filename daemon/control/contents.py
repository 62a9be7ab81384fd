"""Reading blobs of the history: logs, errors, attestations, images without their layers [8]."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pybuild.buildkit.pb import content as pb
from pybuild.buildkit.pb.times import timestamp
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.frontend.parsing import parse
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/containerd.services.content.v1.Content/"
_PIECE_BYTES = 1 << 20


class ContentService:
    """`Content`, read-only."""

    def __init__(self, server: BuildServer) -> None:
        self._server = server

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {_SERVICE + "Info": unary(self._info), _SERVICE + "Read": self._read}

    async def _info(self, data: bytes, call: IncomingCall) -> bytes:
        request = parse(pb.InfoRequest(), data)
        status = os.stat(self._path(request.digest, call))
        made = timestamp(status.st_mtime)
        info = pb.Info(digest=request.digest, size=status.st_size, created_at=made, updated_at=made)
        return pb.InfoResponse(info=info).SerializeToString()

    async def _read(self, call: IncomingCall) -> None:
        request = parse(pb.ReadContentRequest(), await call.receive())
        if request.offset < 0 or request.size < 0:
            raise RpcError(Code.OUT_OF_RANGE, "a read of less than nothing")
        with open(self._path(request.digest, call), "rb") as file:  # noqa: ASYNC230  small, and ours
            size = os.fstat(file.fileno()).st_size
            end = min(size, request.offset + request.size) if request.size else size
            at = file.seek(request.offset)
            while at < end:
                data = file.read(min(_PIECE_BYTES, end - at))
                message = pb.ReadContentResponse(offset=at, data=data)
                await call.send(message.SerializeToString())
                at += len(data)

    def _path(self, digest: str, call: IncomingCall) -> str:
        path = self._server.tenant(call.peer.owner).history.blob_path(digest)
        if path is None:
            raise RpcError(Code.NOT_FOUND, f"content {digest}: not found")
        return path
