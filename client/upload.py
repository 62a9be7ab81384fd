"""Lends this program's standard input to a build server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from pybuild.buildkit.session.bytesmessage import wrap
from pybuild.engine.abandonable import abandonable
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError

METHOD = "/moby.upload.v1.Upload/Pull"
_PIECE = 1 << 18


class Input(Protocol):
    """Bytes to be read; blocking."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


def upload(known: Mapping[str, Callable[[], Input]]) -> dict[str, Handler]:
    """Send the input of each name, which follows ``http://buildkit-session/``."""

    async def pull(call: IncomingCall) -> None:
        name = (call.metadata.get("urlpath") or "").removeprefix("/")
        opener = known.get(name)
        if opener is None:
            raise RpcError(Code.NOT_FOUND, f"no upload {name!r}")
        source = await asyncio.to_thread(opener)
        try:
            while data := await abandonable(source.read, _PIECE):
                await call.send(wrap(data))
        except OSError as error:
            raise RpcError(Code.UNKNOWN, f"cannot read the upload: {error.strerror}") from error
        finally:
            source.close()

    return {METHOD: pull}
