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

[network]
mode = "isolated"  # or "host", the default
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pybuild.model.errors import UsageError
from pybuild.paths import config_file, default_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """What overrides the host's resolver settings inside steps [DMN-4]."""

    nameservers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    search_domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the store may take of the disk, as written: bytes, ``10GB``, ``60%``; empty: default.

    Attributes:
        enabled: free space after builds at all.
    """

    enabled: bool = True
    reserved_space: str = ""
    max_used_space: str = ""
    min_free_space: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLimit:
    """How large a cache mount may be after a step, and how long it may lie unused; 0: any."""

    max_bytes: int = 0
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """What the build server alone looks at [DMN-1].

    Attributes:
        addresses: where it listens.
        cert, key, ca: of its side of TLS; with *ca*, clients must have a certificate too.
        entitlements: what clients may grant their builds.
        labels: of its worker.
        provenance_dir: where JSON files say what provenance tells of the machine.
    """

    addresses: tuple[str, ...] = ()
    cert: str = ""
    key: str = ""
    ca: str = ""
    entitlements: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    provenance_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the configuration file and the environment say.

    Attributes:
        registries: per host, the table as written; `registry.hosts` knows its keys and checks them.
        max_parallelism: how many steps may run at once; 0 is the default of the machine.
        runtime: the OCI runtime that runs steps; empty: our own sandbox.
        isolated_network: steps that ask for no other network get one of their own.
        cache_max: what the store never takes more than, as written; empty: no ceiling.
        mounts: limits of cache mounts by id; ``*`` for those that are not named.
    """

    root: str
    registries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    max_parallelism: int = 0
    runtime: str = ""
    isolated_network: bool = False
    dns: Dns = Dns()
    limits: Limits = Limits()
    cache_max: str = ""
    mounts: Mapping[str, MountLimit] = field(default_factory=dict[str, MountLimit])
    daemon: Daemon = Daemon()


_OCI = ("max-parallelism", "gc", "reservedSpace", "maxUsedSpace", "minFreeSpace", "labels") + (
    "binary",
)
_DAEMON = ("insecure-entitlements", "provenanceEnvDir")
# Keys of buildkitd.toml about what is different here, so that one file serves both [DMN-1].
_OCI_IGNORED = ("enabled", "snapshotter", "platforms", "rootless", "networkMode")
_IGNORED = ("debug", "trace", "otel", "cdi", "history", "log", "frontend", "system") + (
    "proxyNetwork",
)


def load_settings(
    config: str = "", root: str = "", runtime: str = "", cache_max: str = ""
) -> Settings:
    """Read the configuration that applies; flags and $PYBUILD_ROOT win over the file.

    Raises:
        UsageError: no such file, not TOML, unknown key, or a value of the wrong type.
    """
    import os

    path = config_file(config)
    table = _read(path) if path else {}
    reader = _Table(path or "", "", table)
    registries = {
        host: reader.child("registry").child(host).as_dict()
        for host in reader.child("registry").keys_any()
    }
    worker = reader.child("worker")
    oci = worker.child("oci")
    dns = reader.child("dns")
    grpc = reader.child("grpc")
    tls = grpc.child("tls")
    cache = reader.child("cache")
    mounts = cache.child("mounts")
    if cache_max:
        from pybuild.cache.filters import parse_size

        parse_size(cache_max, 1)
    settings = Settings(
        root=os.path.abspath(root) if root else default_root(reader.text("root")),
        registries=registries,
        max_parallelism=oci.number("max-parallelism"),
        runtime=runtime or oci.text("binary"),
        limits=Limits(
            enabled=oci.boolean("gc", True),
            reserved_space=oci.size("reservedSpace"),
            max_used_space=oci.size("maxUsedSpace"),
            min_free_space=oci.size("minFreeSpace"),
        ),
        cache_max=cache_max or cache.size("max"),
        mounts={id: _mount_limit(mounts.child(id)) for id in mounts.keys_any()},
        isolated_network=reader.child("network").choice("mode", ("host", "isolated")) == "isolated",
        dns=Dns(
            nameservers=dns.addresses("nameservers"),
            options=dns.words("options"),
            search_domains=dns.words("searchDomains"),
        ),
        daemon=Daemon(
            addresses=grpc.texts("address"),
            cert=tls.text("cert"),
            key=tls.text("key"),
            ca=tls.text("ca"),
            entitlements=reader.texts("insecure-entitlements"),
            provenance_dir=reader.text("provenanceEnvDir"),
            labels={key: oci.child("labels").text(key) for key in oci.child("labels").keys_any()},
        ),
    )
    for part, known in (
        (
            reader,
            ("root", "registry", "worker", "dns", "network", "grpc", "cache", *_DAEMON, *_IGNORED),
        ),
        (worker, ("oci", "containerd")),
        (oci, (*_OCI, *_OCI_IGNORED)),
        (grpc, ("address", "tls", "debugAddress", "uid", "gid", "securityDescriptor")),
        (tls, ("cert", "key", "ca")),
        (dns, ("nameservers", "options", "searchDomains")),
        (reader.child("network"), ("mode",)),
        (cache, ("max", "mounts")),
        *((mounts.child(id), ("max", "max-age")) for id in mounts.keys_any()),
    ):
        part.only(known)
    return settings


def _mount_limit(table: _Table) -> MountLimit:
    from pybuild.cache.filters import parse_size

    size = table.size("max", "a size such as 10GB")
    if size.endswith("%"):
        raise table.wrong("max", "a size such as 10GB", size)
    return MountLimit(
        max_bytes=parse_size(size, 1) if size else 0, max_age_s=table.duration("max-age")
    )


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"configuration file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration file {path}: {error}") from error


class _Table:
    """One TOML table with its place, so that every complaint names file, key and value."""

    def __init__(self, path: str, where: str, table: Mapping[str, Any]) -> None:
        self._path = path
        self._where = where
        self._table = table

    def keys_any(self) -> list[str]:
        return sorted(self._table)

    def as_dict(self) -> dict[str, Any]:
        return dict(self._table)

    def child(self, key: str) -> _Table:
        value = self._table.get(key, {})
        where = f"{self._where}.{key}" if self._where else key
        if not isinstance(value, dict):
            raise self.wrong(key, "a table", value)
        return _Table(self._path, where, value)  # pyright: ignore[reportUnknownArgumentType]

    def text(self, key: str) -> str:
        return str(self._typed(key, str, "a string", ""))

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of *choices*, the first where the key is absent."""
        value = self.text(key) or choices[0]
        if value not in choices:
            raise self.wrong(key, "one of " + ", ".join(choices), value)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        return bool(self._typed(key, bool, "true or false", default))

    def size(self, key: str, what: str = "a size such as 10GB or 60%") -> str:
        """Bytes as a number, or a text such as ``10GB`` or ``60%``; empty when absent."""
        from pybuild.cache.filters import parse_size

        value = self._table.get(key, "")
        text = str(value)
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise UsageError("")
            if text:
                parse_size(text, 1)
        except UsageError as error:
            raise self.wrong(key, what, value) from error
        return text

    def duration(self, key: str) -> float:
        """Seconds, written as ``48h`` or ``30d``; 0 when absent."""
        from pybuild.cache.filters import parse_duration

        text = self.text(key)
        try:
            return parse_duration(text) if text else 0.0
        except UsageError as error:
            raise self.wrong(key, "a duration such as 48h or 30d", text) from error

    def number(self, key: str) -> int:
        value = self._typed(key, int, "a whole number", 0)
        if isinstance(value, bool) or value < 0:
            raise self.wrong(key, "a whole number", value)
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._typed(key, list, "a list of strings", [])
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(key, "a list of strings", items)
        return tuple(items)

    def words(self, key: str) -> tuple[str, ...]:
        """Texts that each fit on a line with others, such as resolv.conf's."""
        items = self.texts(key)
        for item in items:
            if item.split() != [item]:
                raise self.wrong(key, "a list of single words", item)
        return items

    def addresses(self, key: str) -> tuple[str, ...]:
        items = self.texts(key)
        if items:
            import ipaddress

            for item in items:
                try:
                    ipaddress.ip_address(item)
                except ValueError:
                    raise self.wrong(key, "a list of IP addresses", item) from None
        return items

    def only(self, known: tuple[str, ...]) -> None:
        for key in sorted(self._table):
            if key not in known:
                near = get_close_matches(key, known, n=1)
                place = f"{self._where}.{key}" if self._where else key
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise UsageError(f'configuration file {self._path}: unknown key "{place}"{hint}')

    def _typed(self, key: str, kind: type, what: str, default: Any) -> Any:
        value = self._table.get(key, default)
        if not isinstance(value, kind):
            raise self.wrong(key, what, value)
        return value

    def wrong(self, key: str, what: str, value: object) -> UsageError:
        place = f"{self._where}.{key}" if self._where else key
        return UsageError(
            f'configuration file {self._path}: "{place}" must be {what}, not {value!r}'
        )
