"""Single blobs of registries and of clients' layouts, taken into the store as files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybuild.buildkit.llb.queries import BlobQuery
from pybuild.daemon.session.content import SessionContent
from pybuild.engine.layerproof import SingleBlob
from pybuild.executor.workers.bounded import bounded
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError

if TYPE_CHECKING:
    from pybuild.cache.store import Store
    from pybuild.daemon.session.sessions import Session
    from pybuild.executor.sources.http import HttpFiles
    from pybuild.registry.client.client import Client

_TYPE = "application/octet-stream"


async def take_from_registry(
    query: BlobQuery, client: Client, store: Store, files: HttpFiles
) -> None:
    """Take the blob of a repository into the store.

    Raises:
        UserError, EnvironmentFault: it cannot be had, or is more than the store may be.
    """
    size = await client.blob_size(query.reference)
    path = store.scratch("blob")
    try:
        async with bounded(store.budget, path):
            blob = Descriptor(_TYPE, _digest(query), size)
            await client.pull_blob(query.reference, blob, SingleBlob(path))
        await files.adopt(path, size, query.source())
    finally:
        store.discard(path)


async def take_from_client(
    query: BlobQuery, session: Session | None, store: Store, files: HttpFiles
) -> None:
    """Take the blob of a layout at the client into the store.

    Raises:
        UserError: the client does not have it. EnvironmentFault: it is more than the store may be.
    """
    if session is None:
        raise UserError(f"no session has the OCI layout {query.store}")
    content = SessionContent(session, f"oci:{query.store}")
    path = store.scratch("blob")
    size = 0
    try:
        async with bounded(store.budget, path):
            with SingleBlob(path).writer(_digest(query), None) as file:
                async for piece in content.read(_digest(query)):
                    size += len(piece)
                    file.write(piece)
                file.commit()
        await files.adopt(path, size, query.source())
    finally:
        store.discard(path)


def _digest(query: BlobQuery) -> Digest:
    assert query.reference.digest is not None
    return query.reference.digest
