"""The configuration file: TOML, its keys after ``buildkitd.toml`` where that has one [DMN].

```toml
root = "/var/lib/pybuild"

[registry."docker.io"]
mirrors = ["mirror.example:5000"]

[registry."mirror.example:5000"]
http = true
insecure = false
ca = ["/etc/pybuild/ca.pem"]
keypair = [{ key = "/etc/pybuild/key.pem", cert = "/etc/pybuild/cert.pem" }]

[worker.oci]
max-parallelism = 16
gc = true
reservedSpace = "10GB"
maxUsedSpace = "60%"
minFreeSpace = "20%"
binary = "crun"  # an OCI runtime for steps; left out: our own sandbox

[cache]
max = "20GB"

[cache.mounts."go-build"]  # by the mount's id; "*" is for those that are not named
max = "2GB"
max-age = "30d"

insecure-entitlements = ["network.host", "security.insecure"]
provenanceEnvDir = "/etc/pybuild/provenance.d"

[grpc]
address = ["tcp://0.0.0.0:1234"]

[grpc.tls]
cert = "/etc/pybuild/server.pem"
key = "/etc/pybuild/server-key.pem"
ca = "/etc/pybuild/clients.pem"

[dns]
nameservers = ["192.0.2.1"]
options = ["edns0"]
searchDomains = ["example.com"]

[cdi]
specDirs = ["/etc/cdi"]  # of the files that describe devices
autoAllowed = ["vendor.example/device"]  # those that steps need no grant for

[ca]
trust = ["host", "/etc/pybuild/network.pem"]  # authorities that steps trust beside their image's

[network]
mode = "isolated"  # steps have no other; "host": they share this machine's; "auto", the default: see docs/configuration.md
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pybuild.cache.content.cachemounts import MountLimit
from pybuild.engine.paths import config_file, config_to_write, default_root
from pybuild.engine.table import Table, read_toml
from pybuild.model.dataclass import dataclass

if TYPE_CHECKING:
    from pybuild.registry.client.credentials import Credential
from pybuild.model.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """The resolver settings of steps, in place of the host's [DMN-4]."""

    nameservers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    search_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """The bounds of the store on the disk, as written: bytes, ``10GB``, ``60%``; empty: default.

    Attributes:
        enabled: free space after builds at all.
    """

    enabled: bool = True
    reserved_space: str = ""
    max_used_space: str = ""
    min_free_space: str = ""


class Share(StrEnum):
    """With whom a client of the build server shares what its builds make.

    NONE: nobody, not even its own next build: its store goes when the build ends.
    OWN: its own builds.
    ALL: the other clients that share so: equal steps, layers, commits and files are found.
    """

    OWN = "own"
    ALL = "all"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """The settings of the build server alone [DMN-1].

    Attributes:
        addresses: those that it listens at.
        cert, key, ca: of its side of TLS; with *ca*, clients must have a certificate too.
        entitlements: those that clients may grant their builds.
        labels: of its worker.
        provenance_dir: of the JSON files with the facts about the machine for provenance.
        proxy_network: steps of all builds reach nothing but a proxy of ours.
        share: the parts that clients share, but for those that *clients* names.
    """

    addresses: tuple[str, ...] = ()
    cert: str = ""
    key: str = ""
    ca: str = ""
    entitlements: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    provenance_dir: str = ""
    proxy_network: bool = False
    share: Share = Share.OWN
    clients: Mapping[str, Share] = field(default_factory=dict[str, Share])


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """The settings about devices of steps.

    Attributes:
        directories: of the files that describe them; those of the interface where there are none.
        allowed: names and kinds of those that every step may have.
    """

    directories: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def granted(self, allowed: frozenset[str]) -> frozenset[str]:
        """Return the entitlements *allowed* with those of these devices."""
        whole = (name if "=" in name else f"{name}=*" for name in self.allowed)
        return allowed.union(f"device={name}" for name in whole) if self.allowed else allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of the configuration file and the environment.

    Attributes:
        config: the file that settings stand in, or would, as hints name it.
        registries: per host, the table as written; `registry.client.hosts` knows its keys and checks them.
        max_parallelism: the number of steps that may run at once; 0 is the default of the machine.
        durable: a build is done when all of it is on the disk.
        runtime: the OCI runtime that runs steps; empty: our own sandbox.
        network: ``host`` or ``isolated``, of steps that ask for none; ``auto``: isolated where it can be.
        ca: PEM files whose authorities steps trust beside their image's; ``host`` is this machine's.
        cache_max: the ceiling of the store, as written; empty: none.
        mounts: limits of cache mounts by id; ``*`` for those that are not named.
        logins: at registries, by host, that win over those of docker's and podman's files.
        registry_server: the table as written; `pybuild.engine.servesettings` knows its keys.
    """

    root: str
    config: str = "pybuild.toml"
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    max_parallelism: int = 0
    durable: bool = False
    runtime: str = ""
    network: str = "auto"
    ca: tuple[str, ...] = ()
    dns: Dns = Dns()
    devices: Devices = Devices()
    limits: StoreLimits = StoreLimits()
    cache_max: str = ""
    mounts: Mapping[str, MountLimit] = field(default_factory=dict[str, MountLimit])
    daemon: Daemon = Daemon()
    logins: Mapping[str, Credential] = field(default_factory=dict[str, "Credential"], repr=False)
    registry_server: Table = field(default_factory=lambda: Table("", "registry-server", {}))


_OCI = ("max-parallelism", "gc", "reservedSpace", "maxUsedSpace", "minFreeSpace", "labels") + (
    "binary",
)
_DAEMON = ("insecure-entitlements", "provenanceEnvDir", "proxyNetwork", "registry-server")
# Keys of buildkitd.toml about what is different here, so that one file serves both [DMN-1].
_OCI_IGNORED = ("enabled", "snapshotter", "platforms", "rootless") + (
    ("networkMode", "cniConfigPath", "cniBinaryPath", "cniPoolSize", "bridgeName", "bridgeSubnet")
)
_IGNORED = ("debug", "trace", "otel", "history", "log", "frontend", "system")


def load_settings(
    config: str = "",
    root: str = "",
    runtime: str = "",
    cache_max: str = "",
    ca: Sequence[str] = (),
) -> Settings:
    """Read the configuration that applies; flags and $PYBUILD_ROOT win over the file.

    Args:
        ca: as ``--ca`` gives it; ``none`` among them lets go of what the file says.

    Raises:
        UsageError: no such file, not TOML, unknown key, or a value of the wrong type.
    """
    import os

    path = config_file(config)
    table = read_toml(path) if path else {}
    reader = Table(path or "", "", table)
    registries = {
        host: reader.child("registry").child(host).as_dict()
        for host in reader.child("registry").keys_any()
    }
    worker = reader.child("worker")
    oci = worker.child("oci")
    dns = reader.child("dns")
    cdi = reader.child("cdi")
    cache = reader.child("cache")
    mounts = cache.child("mounts")
    if cache_max:
        from pybuild.model.amounts import parse_size

        parse_size(cache_max, 1)
    settings = Settings(
        root=os.path.abspath(root) if root else default_root(reader.text("root")),
        config=config_to_write(config),
        registries=registries,
        max_parallelism=oci.number("max-parallelism"),
        durable=reader.boolean("durable", False),
        runtime=runtime or oci.text("binary"),
        limits=StoreLimits(
            enabled=oci.boolean("gc", True),
            reserved_space=oci.size("reservedSpace"),
            max_used_space=oci.size("maxUsedSpace"),
            min_free_space=oci.size("minFreeSpace"),
        ),
        cache_max=cache_max or cache.size("max"),
        mounts={id: _mount_limit(mounts.child(id)) for id in mounts.keys_any()},
        network=_network(reader.child("network"), oci),
        ca=_authorities(ca or reader.child("ca").texts("trust")),
        dns=Dns(
            nameservers=dns.addresses("nameservers"),
            options=dns.words("options"),
            search_domains=dns.words("searchDomains"),
        ),
        devices=Devices(directories=cdi.texts("specDirs"), allowed=cdi.texts("autoAllowed")),
        registry_server=reader.child("registry-server"),
        daemon=_daemon(reader),
    )
    _refuse_unknown(reader)
    return settings


def _daemon(reader: Table) -> Daemon:
    """Return the settings of the server in the file."""
    grpc, clients = reader.child("grpc"), reader.child("daemon")
    tls, named = grpc.child("tls"), clients.child("clients").keys_any()
    oci = reader.child("worker").child("oci")
    return Daemon(
        addresses=grpc.texts("address"),
        cert=tls.text("cert"),
        key=tls.text("key"),
        ca=tls.text("ca"),
        entitlements=reader.texts("insecure-entitlements") + _of_devices(reader.child("cdi")),
        provenance_dir=reader.text("provenanceEnvDir"),
        proxy_network=reader.boolean("proxyNetwork", False),
        share=_share(clients),
        clients={name: _share(clients.child("clients").child(name)) for name in named},
        labels={key: oci.child("labels").text(key) for key in oci.child("labels").keys_any()},
    )


def _refuse_unknown(reader: Table) -> None:
    """Raise UsageError where the file has a key that nobody knows."""
    worker, grpc, clients = reader.child("worker"), reader.child("grpc"), reader.child("daemon")
    oci, cache = worker.child("oci"), reader.child("cache")
    mounts, named = cache.child("mounts"), clients.child("clients").keys_any()
    for part, known in (
        (
            reader,
            ("root", "durable", "registry", "worker", "dns", "network", "grpc", "cache", "daemon")
            + ("ca", "cdi", *_DAEMON, *_IGNORED),
        ),
        (worker, ("oci", "containerd")),
        (oci, (*_OCI, *_OCI_IGNORED)),
        (grpc, ("address", "tls", "debugAddress", "uid", "gid", "securityDescriptor")),
        (grpc.child("tls"), ("cert", "key", "ca")),
        (clients, ("share", "clients")),
        *((clients.child("clients").child(name), ("share",)) for name in named),
        (reader.child("dns"), ("nameservers", "options", "searchDomains")),
        (reader.child("cdi"), ("specDirs", "autoAllowed", "disabled")),
        (reader.child("network"), ("mode",)),
        (reader.child("ca"), ("trust",)),
        (cache, ("max", "mounts")),
        *((mounts.child(id), ("max", "max-age")) for id in mounts.keys_any()),
    ):
        part.only(known)


def _authorities(given: Sequence[str]) -> tuple[str, ...]:
    """Return them after the last ``none``, files by their whole paths."""
    import os

    chosen: list[str] = []
    for name in given:
        if not name:
            raise UsageError("an authority is a file or host, not nothing", hints=["--ca host"])
        chosen = [] if name == "none" else [*chosen, name]
    return tuple(name if name == "host" else os.path.abspath(name) for name in chosen)


def _network(table: Table, oci: Table) -> str:
    """Return the network of steps: ours, or that of this machine as buildkitd.toml says it."""
    if "mode" in table.keys_any() or oci.text("networkMode") != "host":
        return table.choice("mode", ("auto", "host", "isolated"))
    return "host"


def _of_devices(cdi: Table) -> tuple[str, ...]:
    """Return the entitlement of devices where the file names directories of them for builds."""
    opens = bool(cdi.texts("specDirs")) and not cdi.boolean("disabled", False)
    return ("device",) if opens else ()


def _share(table: Table) -> Share:
    return Share(table.choice("share", tuple(Share)))


def _mount_limit(table: Table) -> MountLimit:
    from pybuild.model.amounts import parse_size

    size = table.size("max", "a size such as 10GB")
    if size.endswith("%"):
        raise table.wrong("max", "a size such as 10GB", size)
    return MountLimit(
        max_bytes=parse_size(size, 1) if size else 0, max_age_s=table.duration("max-age")
    )
