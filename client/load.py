"""Takes an image that a server sent as an OCI layout into the store of this machine (``--load``)."""

from __future__ import annotations

from dataclasses import replace

from pybuild.builds.result import BuildResult
from pybuild.cache.store import Store
from pybuild.client.content import BlobDirectory
from pybuild.image.archive import reachable
from pybuild.model.errors import EnvironmentFault


def take(store: Store, folder: str, result: BuildResult) -> None:
    """Move the image's blobs out of *folder*, where each was compared with its digest, and name it.

    Raises:
        EnvironmentFault: something of it did not come.
    """
    if result.image is None:
        raise EnvironmentFault("the server sent no image")
    made = replace(result.image, annotations={})
    came = BlobDirectory(folder)
    for blob in reachable(made, came.blob):
        if not store.blobs.holds(blob):
            store.blobs.adopt(came.blob(blob.digest), blob.digest, blob.size)
    for name in result.names:
        store.images.tag(name, made)
    if not result.names:
        store.images.add_dangling(made)
