"""The client's standard input: a context, or a Dockerfile."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from pybuild.buildkit.fsutil.packet import MalformedPacket
from pybuild.buildkit.session.bytesmessage import unwrap
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.model.errors import UserError
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError

METHOD = "/moby.upload.v1.Upload/Pull"
HOST = "buildkit-session"


async def pull(session: Session, path: str) -> AsyncGenerator[bytes]:
    """Give the bytes behind ``http://buildkit-session/<path>``, in pieces.

    Raises:
        UserError: the client refuses. Cancelled: it has gone.
    """
    doing = "read what the client uploads"
    metadata = Metadata({"urlpath": "/" + path.lstrip("/"), "urlhost": HOST})
    try:
        async with session.stream(METHOD, metadata=metadata) as call:
            while (message := await call.receive()) is not None:
                data = unwrap(message)
                if data:
                    yield data
    except RpcError as error:
        raise failed(doing, error) from error
    except MalformedPacket as error:
        raise UserError(f"{doing}: {error}") from error
