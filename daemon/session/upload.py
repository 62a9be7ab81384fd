"""The client's standard input: a context, or a Dockerfile."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import sha256
from typing import TYPE_CHECKING

from pybuild.buildkit.fsutil.packet import MalformedPacket
from pybuild.buildkit.session.bytesmessage import unwrap
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.executor.workers.bounded import bounded
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import HttpSource
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.executor.sources.http import HttpFiles

METHOD = "/moby.upload.v1.Upload/Pull"
HOST = "buildkit-session"


async def pull(session: Session, path: str) -> AsyncGenerator[bytes]:
    """Give the bytes behind ``http://buildkit-session/<path>``, in pieces.

    Raises:
        UserError: the client refuses. Cancelled: it has gone.
    """
    beside = session.uploads.get(path)
    if beside is not None:
        async for piece in beside:
            yield piece
        return
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


async def adopt(
    session: Session, store: Store, files: HttpFiles, id: str, filename: str
) -> HttpSource:
    """Take the client's upload *id* into the store, as a file that is here already.

    Raises:
        UserError: the client refuses. EnvironmentFault: it is larger than the store may be.
    """
    digest, size = sha256(), 0
    path = store.scratch("upload")
    try:
        async with bounded(store.budget, path):
            with open(path, "xb") as file:  # noqa: ASYNC230  the page cache takes it
                async for piece in pull(session, id):
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
        checksum = Digest.from_hex(digest.hexdigest())
        op = HttpSource(url=f"upload:{id}", checksum=checksum, filename=filename)
        await files.adopt(path, size, op)
        return op
    finally:
        store.discard(path)
