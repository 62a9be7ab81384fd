"""The settings of a served registry: ``[registry-server]`` of the configuration."""

from __future__ import annotations

from dataclasses import field

from pybuild.cache.repositories.collect import Keeping
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.model.dataclass import dataclass
from pybuild.registry.server.access import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """The limits for one client.

    Attributes:
        manifest_bytes: the size of a manifest; the specification wants 4 MiB to pass [end-7a].
        blob_bytes: the size of a blob; 0: as large as the disk.
        transfers: bodies that are taken in at once; the next wait for a moment, then get 429.
        uploads: uploads that are begun and not ended.
        connections: at once.
        idle_s: without a request, or the least number of bytes of a body, in that time, a client is
            given up.
        least_bytes: in *idle_s*.
        upload_kept_s: an upload that nobody continued goes after that.
    """

    manifest_bytes: int = MAX_MANIFEST_BYTES
    blob_bytes: int = 0
    transfers: int = 64
    uploads: int = 1000
    connections: int = 2000
    idle_s: float = 60.0
    least_bytes: int = 16 << 10
    upload_kept_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamSettings:
    """Another registry whose images are kept here as they are pulled.

    Attributes:
        prefix: its repositories are those below this name.
        host: as references name it.
        fresh_s: seconds for which a tag is not looked up again.
        for_all: names that we do not have are looked for there, as mirrors of Docker's daemon are
            asked.
    """

    prefix: str
    host: str
    fresh_s: float = 600.0
    for_all: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """One server.

    Attributes:
        access: the rules of who may do what.
        htpasswd: the file of those who can log in; empty: nobody need to.
        tokens: give and take tokens, not Basic alone.
        issuer, issuer_keys, issuer_url: somebody else whose tokens are taken: the name in them,
            the file of public keys, and where clients get them.
        service: the audience of the tokens.
        metrics: address at which Prometheus reads the server's numbers; nobody need log in there.
        cert, key, ca: of TLS; with *ca*, clients must have a certificate of it.
        external_url: this server's address for clients, where requests do not show it: behind a
            proxy.
        read_only: nothing can be pushed or deleted.
        deletion: tags, manifests and blobs can be deleted.
        upstreams: registries that are cached.
        collect_every_s: seconds from one collection of unneeded blobs to the next; 0: never.
        grace_s: seconds that a stopping server gives its requests to finish.
    """

    access: Access = field(default_factory=Access)
    htpasswd: str = ""
    tokens: bool = False
    issuer: str = ""
    issuer_keys: str = ""
    issuer_url: str = ""
    service: str = "pybuild-registry"
    metrics: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    external_url: str = ""
    read_only: bool = False
    deletion: bool = True
    limits: ClientLimits = field(default_factory=ClientLimits)
    keeping: Keeping = field(default_factory=Keeping)
    upstreams: tuple[UpstreamSettings, ...] = ()
    collect_every_s: float = 600.0
    grace_s: float = 30.0
