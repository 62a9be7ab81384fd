"""Deleting tags and manifests [end-9]."""

from __future__ import annotations

from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.challenge import delete_scope
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.transport import Request, Transport


async def delete(transport: Transport, endpoint: Endpoint, reference: Reference) -> None:
    """Delete the manifest that *reference* has a digest of, else the tag.

    Raises:
        UnresolvedImage: it is not there.
        HttpFault: the registry does not do that, at least not for us.
    """
    request = Request(
        endpoint=endpoint,
        method="DELETE",
        repository=reference.path,
        action=f"delete {reference}",
        scopes=delete_scope(reference.path),
        path=f"/{reference.path}/manifests/{reference.digest or reference.tag}",
    )
    async with transport.open(request) as response:
        if response.status in (200, 202, 204):
            return
        if response.status == 404:
            raise UnresolvedImage(f"delete {reference}: not found")
        refusal = transport.refusal(request, response)
    if refusal.status in (400, 405):
        way = "this registry deletes nothing, or nobody has allowed it to"
        if reference.digest is None:
            way = "registries that delete no tags may delete NAME@DIGEST, with all its tags"
        raise HttpFault(refusal.message, status=refusal.status, hints=[way])
    raise refusal
