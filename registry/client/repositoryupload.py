"""The requests that all uploads of a blob to a repository share."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import HttpFault
from pybuild.net.http1.redirects import onward
from pybuild.registry.client.challenge import Scopes, push_scope
from pybuild.registry.client.faults import ContentFault
from pybuild.registry.client.hosts import Endpoint
from pybuild.registry.client.samestore import STORE
from pybuild.registry.client.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class Uploading:
    """An upload to one repository."""

    transport: Transport
    endpoint: Endpoint
    reference: Reference

    @property
    def action(self) -> str:
        """The purpose of the upload, in errors."""
        return f"push {self.reference}"

    async def look(self, descriptor: Descriptor) -> str | None:
        """Return None when the repository has the blob, else which store the server says to have."""
        request = self.request(
            "HEAD",
            path=f"/{self.reference.path}/blobs/{descriptor.digest}",
        )
        async with self.transport.open(request) as response:
            if response.status == 200 and response.length in (None, descriptor.size):
                return None
            if response.status in (200, 404, 405):
                return response.headers.get(STORE, "")
            raise self.transport.refusal(request, response)

    async def begin(self) -> str:
        """Begin an upload; return where it goes on."""
        request = self.request("POST", path=f"/{self.reference.path}/blobs/uploads/")
        async with self.transport.open(request) as response:
            if response.status != 202:
                raise self.transport.refusal(request, response)
            return self.location_of(response)

    async def cancel(self, location: str) -> None:
        """Give an upload up."""
        try:
            async with self.transport.open(self.request("DELETE", url=location)):
                pass
        except HttpFault:
            pass  # it times out over there [DST-10]

    def location_of(self, response: Response) -> str:
        """The URL at which an upload goes on: absolute, and never down from TLS to plain HTTP."""
        text = response.headers.get("Location", "")
        if not text:
            raise ContentFault(f"{self.action}: the upload has no Location")
        target = onward(response, text)
        if response.url.scheme == "https" and target.scheme == "http":
            # Registries behind a TLS terminator may not know that they are.
            # As they are written: the ports that go without saying are two.
            if target.raw_authority != response.url.raw_authority:
                raise ContentFault(f"{self.action}: the upload goes to plain HTTP")
            return "https" + str(target)[len("http") :]
        return str(target)

    def finishing(self, location: str, digest: Digest) -> str:
        """Return where an upload ends that is to have this digest."""
        algorithm, _, text = digest.partition(":")
        location = location.partition("#")[0]
        return f"{location}{'&' if '?' in location else '?'}digest={algorithm}%3A{text}"

    def request(
        self,
        method: str,
        *,
        path: str = "",
        url: str = "",
        query: tuple[tuple[str, str], ...] = (),
        scopes: Scopes | None = None,
        retry: bool = True,
    ) -> Request:
        return Request(
            endpoint=self.endpoint,
            method=method,
            repository=self.reference.path,
            action=self.action,
            scopes=scopes or push_scope(self.reference.path),
            path=path,
            url=url,
            query=query,
            retry=retry,
        )
