"""``[registry-server]`` of the configuration and the flags of ``registry serve``, together.

```toml
[registry-server]
address = ["0.0.0.0:5000"]
metrics = "127.0.0.1:5001"
external-url = "https://registry.example"
read-only = false
delete = true

[registry-server.tls]
cert = "/etc/pybuild/registry.pem"
key = "/etc/pybuild/registry-key.pem"
ca = "/etc/pybuild/clients.pem"

[registry-server.auth]
htpasswd = "/etc/pybuild/htpasswd"
tokens = true
service = "registry.example"

[registry-server.auth.issuer]
name = "auth.example"
keys = "/etc/pybuild/issuer.pem"
url = "https://auth.example/token"

[[registry-server.access]]
users = ["*"]
repositories = ["team/*", "home/$user/*"]
actions = ["pull", "push"]

[registry-server.upstream.hub]
host = "docker.io"
fresh = "10m"
for-all = true

[registry-server.limits]
manifest = "4MiB"
blob = "10GiB"
transfers = 64
uploads = 1000
connections = 2000
idle = "60s"

[registry-server.keep]
blobs = "1h"
released = "1h"
untagged = "720h"
uploads = "24h"
every = "10m"
```
"""

from __future__ import annotations

from typing import Protocol

from pybuild.cache.repositories.collect import Keeping
from pybuild.cache.repositories.repositories import is_name
from pybuild.engine.table import Table
from pybuild.model.amounts import parse_size
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.reference import Reference
from pybuild.registry.server.access import ALL, MEMBERS, Access, Rule
from pybuild.registry.server.routes import Permission
from pybuild.registry.server.settings import ClientLimits, RegistrySettings, UpstreamSettings


class Flags(Protocol):
    """The options of a command line, as `pybuild.commandline.parser` reads them."""

    def flag(self, name: str, default: bool = False) -> bool: ...
    def one(self, name: str, default: str = "") -> str: ...
    def many(self, name: str) -> list[str]: ...


DEFAULT_ADDRESS = "127.0.0.1:5000"
_KEYS = (
    ("address", "metrics", "external-url", "read-only", "delete", "grace")
    + ("tls", "auth", "access", "upstream", "limits", "keep")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Serving:
    """The addresses to listen at, and the settings of the server."""

    addresses: tuple[str, ...]
    server: RegistrySettings


def read_keeping(table: Table) -> Keeping:
    """Return the times for which unneeded things are kept. Raises UsageError."""
    keep, default = table.child("keep"), Keeping()
    untagged = keep.duration("untagged", -1.0)
    return Keeping(
        blobs=keep.duration("blobs", default.blobs),
        released=keep.duration("released", default.released),
        untagged=None if untagged < 0 else untagged,
    )


def read_serving(table: Table, flags: Flags) -> Serving:
    """Return the settings of *table* and *flags* together; flags win.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or a contradiction.
    """
    tls, auth, limits, keep = (table.child(key) for key in ("tls", "auth", "limits", "keep"))
    issuer = auth.child("issuer")
    for part, known in (
        (table, _KEYS),
        (tls, ("cert", "key", "ca")),
        (auth, ("htpasswd", "tokens", "service", "issuer")),
        (issuer, ("name", "keys", "url")),
        (limits, ("manifest", "blob", "transfers", "uploads", "connections", "idle")),
        (keep, ("blobs", "released", "untagged", "uploads", "every")),
    ):
        part.only(known)
    default = RegistrySettings()
    htpasswd = flags.one("htpasswd") or auth.text("htpasswd")
    cert = flags.one("tlscert") or tls.text("cert")
    key = flags.one("tlskey") or tls.text("key")
    ca = flags.one("tlscacert") or tls.text("ca")
    if (key or ca) and not cert:
        raise UsageError("TLS needs a certificate", hints=["give it with --tlscert"])
    tokens = flags.flag("tokens") or auth.boolean("tokens", False)
    if tokens and not htpasswd:
        raise UsageError("tokens need users", hints=["give them with --htpasswd FILE"])
    if bool(issuer.text("name")) != bool(issuer.text("keys")):
        raise UsageError("registry-server.auth.issuer needs a name and keys")
    server = RegistrySettings(
        access=_access(table, bool(htpasswd or issuer.text("name"))),
        issuer=issuer.text("name"),
        issuer_keys=issuer.text("keys"),
        issuer_url=issuer.text("url"),
        htpasswd=htpasswd,
        tokens=tokens,
        service=auth.text("service") or default.service,
        metrics=flags.one("metrics") or table.text("metrics"),
        cert=cert,
        key=key,
        ca=ca,
        external_url=table.text("external-url"),
        read_only=flags.flag("read-only") or table.boolean("read-only", False),
        deletion=table.boolean("delete", True),
        limits=_limits(limits, keep),
        keeping=read_keeping(table),
        upstreams=_upstreams(table.child("upstream")),
        collect_every_s=keep.duration("every", default.collect_every_s),
        grace_s=table.duration("grace", default.grace_s),
    )
    addresses = flags.many("addr") or list(table.texts("address")) or [DEFAULT_ADDRESS]
    return Serving(tuple(addresses), server)


def _access(table: Table, has_users: bool) -> Access:
    rules: list[Rule] = []
    for item in table.tables("access"):
        item.only(("users", "repositories", "actions"))
        actions = item.texts("actions")
        for action in actions:
            if action not in set(Permission):
                known = ", ".join(Permission)
                raise item.wrong("actions", f"a list of {known}", action)
        rules.append(
            Rule(
                users=item.texts("users"),
                repositories=item.texts("repositories"),
                actions=frozenset(Permission(action) for action in actions),
            )
        )
    if rules:
        return Access(tuple(rules))
    return Access((MEMBERS if has_users else ALL,))


def _upstreams(table: Table) -> tuple[UpstreamSettings, ...]:
    upstreams: list[UpstreamSettings] = []
    for prefix in table.keys_any():
        one = table.child(prefix)
        one.only(("host", "fresh", "for-all"))
        if not is_name(prefix):
            raise table.wrong(prefix, "named like a repository", prefix)
        host = one.text("host")
        try:
            Reference.parse(f"{host}/x")
        except ValueError:
            host = ""
        if not host:
            raise one.wrong("host", "a registry's host, such as docker.io", one.text("host"))
        upstreams.append(
            UpstreamSettings(
                prefix=prefix,
                host=host,
                fresh_s=one.duration("fresh", 600.0),
                for_all=one.boolean("for-all", False),
            )
        )
    return tuple(upstreams)


def _limits(table: Table, keep: Table) -> ClientLimits:
    default = ClientLimits()

    def size(key: str, otherwise: int) -> int:
        text = table.size(key)
        return parse_size(text, 0) if text else otherwise

    return ClientLimits(
        manifest_bytes=size("manifest", default.manifest_bytes),
        blob_bytes=size("blob", default.blob_bytes),
        transfers=table.number("transfers", default.transfers) or default.transfers,
        uploads=table.number("uploads", default.uploads) or default.uploads,
        connections=table.number("connections", default.connections) or default.connections,
        idle_s=table.duration("idle", default.idle_s),
        upload_kept_s=keep.duration("uploads", default.upload_kept_s),
    )
