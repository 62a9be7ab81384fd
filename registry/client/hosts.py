"""The servers of a registry: its hosts, mirrors, schemes and certificates [REG-2, REG-8..10].

Pure but for `Hosts`' look into the certificate directories. The configuration file is parsed
elsewhere; keys are those of ``buildkitd.toml``.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.model.reference import DOCKER_HUB
from pybuild.net.http1.tlsfiles import KeyPair, Tls

HUB_HOST = "registry-1.docker.io"
_KEYS = frozenset(("mirrors", "http", "insecure", "ca", "keypair", "tlsconfigdir"))


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The configuration of one registry.

    *http* is None when nothing was said; then loopback hosts may be spoken to in the clear.
    """

    host: str
    mirrors: tuple[str, ...] = ()
    http: bool | None = None
    insecure: bool = False
    ca: tuple[str, ...] = ()
    keypairs: tuple[KeyPair, ...] = ()

    @classmethod
    def from_table(cls, host: str, table: Mapping[str, Any]) -> tuple[HostConfig, tuple[str, ...]]:
        """Read one ``[registry."<host>"]`` table; also returns its ``tlsconfigdir`` list.

        Raises:
            UsageError: an unknown key or a value of the wrong type.
        """
        where = f'registry."{host}"'
        for key in sorted(table):
            if key not in _KEYS:
                raise UsageError(f'{where}: unknown key "{key}"')
        pairs: list[KeyPair] = []
        for pair in _list(table.get("keypair", [])):
            fields = cast("dict[str, Any]", pair) if isinstance(pair, dict) else {}
            key_file, cert_file = fields.get("key"), fields.get("cert")
            if not isinstance(key_file, str) or not isinstance(cert_file, str):
                raise UsageError(f"{where}: keypair needs the texts key and cert")
            pairs.append(KeyPair(cert_file, key_file))
        config = cls(
            host=host,
            mirrors=_texts(where, "mirrors", table.get("mirrors", [])),
            http=_flag(where, "http", table.get("http")),
            insecure=bool(_flag(where, "insecure", table.get("insecure"))),
            ca=_texts(where, "ca", table.get("ca", [])),
            keypairs=tuple(pairs),
        )
        return config, _texts(where, "tlsconfigdir", table.get("tlsconfigdir", []))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server that may answer for a registry.

    Attributes:
        registry: the host as references name it; credentials are found under it.
        netloc: ``host[:port]`` to connect to.
        prefix: ``/v2``, or ``/v2/<path>`` for a mirror below a path.
        schemes: to try, in order; the second only when the first does not speak TLS.
        namespace: the registry a mirror stands in for, sent as ``?ns=``; empty for the origin.
    """

    registry: str
    netloc: str
    prefix: str = "/v2"
    schemes: tuple[str, ...] = ("https",)
    tls: Tls = Tls()
    namespace: str = ""


class Hosts:
    """All registries that are configured; others get the defaults."""

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        certificate_directories: Sequence[str] = (),
        file: str = "pybuild.toml",
    ) -> None:
        """Read *tables*, ``{"docker.io": {"mirrors": […], …}}``.

        *certificate_directories* hold a directory per host, as ``certs.d`` does [REG-10]. *file* is
        where hints say that a table of a registry is to be written.
        """
        self.file = file
        self._configs: dict[str, HostConfig] = {}
        self._tls_directories: dict[str, tuple[str, ...]] = {}
        self._certificate_directories = tuple(certificate_directories)
        for host, table in (tables or {}).items():
            self._configs[host], self._tls_directories[host] = HostConfig.from_table(host, table)

    def config(self, host: str) -> HostConfig:
        """The configuration of *host*, with the certificates in its directories.

        Raises:
            UsageError: a directory holds a certificate without its key.
        """
        config = self._configs.get(host, HostConfig(host))
        directories = [os.path.join(top, host) for top in self._certificate_directories]
        for directory in (*directories, *self._tls_directories.get(host, ())):
            config = _with_directory(config, directory)
        return config

    def insecure(self, host: str) -> Hosts:
        """The same hosts, with *host* allowed plain HTTP and unverified TLS [REG-9]."""
        copy = Hosts(certificate_directories=self._certificate_directories, file=self.file)
        copy._configs = dict(self._configs)
        copy._tls_directories = dict(self._tls_directories)
        known = copy._configs.get(host, HostConfig(host))
        copy._configs[host] = replace(known, insecure=True)
        return copy

    def origin(self, host: str) -> Endpoint:
        """The registry itself."""
        netloc = HUB_HOST if host == DOCKER_HUB else host
        config = self.config(host)
        return Endpoint(host, netloc, "/v2", _schemes(config, netloc), _tls(config))

    def mirrors(self, host: str) -> list[Endpoint]:
        """The mirrors of *host*, in order; for pull and resolve only [REG-8]."""
        endpoints: list[Endpoint] = []
        for mirror in self.config(host).mirrors:
            netloc, _, path = mirror.partition("/")
            config = self.config(netloc)
            prefix = "/v2/" + path.strip("/") if path.strip("/") else "/v2"
            schemes = _schemes(config, netloc)
            endpoints.append(Endpoint(netloc, netloc, prefix, schemes, _tls(config), host))
        return endpoints

    def tls_of(self, netloc: str, fallback: Tls) -> Tls:
        """Certificates for a server that a registry sent us to; *fallback* when none are set.

        Those of ``host`` are those of ``host:443``, too, where that has none.
        """
        for name in dict.fromkeys((netloc, netloc.removesuffix(":443"))):
            config = self.config(name)
            if config != HostConfig(name):
                return _tls(config)
        return fallback


def is_loopback(netloc: str) -> bool:
    """Whether *netloc* (``host[:port]``) can only be this machine [REG-2]."""
    host = host_of(netloc)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(netloc: str) -> str:
    """The host of ``host[:port]`` or ``[v6]:port``, lower case, without brackets."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0].lower()
    return netloc.partition(":")[0].lower()


def _schemes(config: HostConfig, netloc: str) -> tuple[str, ...]:
    if config.insecure:
        return ("https", "http")
    if config.http:
        return ("http",)
    trusted = config.ca or config.keypairs  # who sets up certificates wants them used
    if config.http is None and is_loopback(netloc) and not trusted:
        return ("https", "http")
    return ("https",)


def _tls(config: HostConfig) -> Tls:
    return Tls(config.insecure, config.ca, config.keypairs)


def _with_directory(config: HostConfig, directory: str) -> HostConfig:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return config  # most hosts have none
    ca = [os.path.join(directory, name) for name in names if name.endswith(".crt")]
    pairs: list[KeyPair] = []
    for name in names:
        if name.endswith(".cert"):
            key = name.removesuffix(".cert") + ".key"
            if key not in names:
                raise UsageError(f'{os.path.join(directory, name)}: "{key}" is missing beside it')
            pairs.append(KeyPair(os.path.join(directory, name), os.path.join(directory, key)))
    return replace(config, ca=(*config.ca, *ca), keypairs=(*config.keypairs, *pairs))


def _texts(where: str, key: str, value: object) -> tuple[str, ...]:
    values = _list(value)
    texts = tuple(text for text in values if isinstance(text, str))
    if len(texts) != len(values):
        raise UsageError(f"{where}: {key} is a list of texts")
    return texts


def _list(value: object) -> list[object]:
    return list(cast("list[object]", value)) if isinstance(value, list | tuple) else [value]


def _flag(where: str, key: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise UsageError(f"{where}: {key} is true or false")
