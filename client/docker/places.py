"""The engine that ``-H`` names: an address, a builder's name, a docker context, or ``docker`` itself."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pybuild.client.builders import Builders, tls_files
from pybuild.exporter.docker.address import Address, address_of
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.net.http1.tlsfiles import KeyPair, Tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.client.builders import Options

DOCKER = "docker"
"""The engine that docker's own client would use: $DOCKER_HOST, $DOCKER_CONTEXT, the context in use."""

_SCHEMES = ("unix:///", "tcp://", "ssh://")
_PIPES = "npipe://"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """An engine's address, and what is shown there; *tls* is None where there is none."""

    url: str
    tls: Tls | None = None
    server_name: str = ""

    @property
    def files(self) -> Sequence[tuple[str, str]]:
        """The files of TLS, by docker's names for them."""
        if self.tls is None:
            return ()
        named = [("ca", one) for one in self.tls.ca]
        for pair in self.tls.keypairs:
            named += [("cert", pair.cert), ("key", pair.key or pair.cert)]
        return [(name, os.path.abspath(path)) for name, path in named]


def engine_place(options: Options) -> EnginePlace:
    """Return the engine that ``-H`` names.

    Raises:
        UsageError: there is none of that name, or its address cannot be understood.
    """
    host = options.one("host", DOCKER)
    files = tls_files(options)
    name = options.one("tlsservername")
    if not options.one("host") and (name or any(files.values())):
        raise UsageError("TLS options need a server", hints=["name it with -H"])
    if "://" not in host and host != DOCKER:
        record = Builders.load().known.get(host)
        if record is not None:
            files = {key: files[key] or getattr(record, key) for key in files}
            return _place(record.address, files, name or record.server_name)
    if host.startswith(_PIPES) and os.name == "nt":
        return EnginePlace(url=host)
    if "://" in host:
        environ = {**os.environ, "DOCKER_HOST": host, "DOCKER_CONTEXT": ""}
        known = address_of(environ, schemes=_SCHEMES) if host.startswith(_SCHEMES) else None
    else:
        known = address_of(os.environ, "" if host == DOCKER else host, schemes=_SCHEMES)
    if known is None:
        raise UsageError(
            f'invalid address "{host}": expected unix:///PATH, tcp://HOST:PORT or ssh://HOST',
            hints=(
                [
                    "named pipes are Windows's: from here, let the engine listen on tcp://, or use ssh://"
                ]
                if host.startswith(_PIPES)
                else []
            ),
        )
    return _place(known.url, files, name, known)


def _place(
    url: str, files: dict[str, str], server_name: str, known: Address | None = None
) -> EnginePlace:
    if not url.startswith("tcp://"):
        return EnginePlace(url=url)
    folder = known.certificates if known is not None else ""
    if folder and not any(files.values()):
        paths = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
        whole = {key: os.path.join(folder, path) for key, path in paths.items()}
        files = {key: path for key, path in whole.items() if os.path.exists(path)}
    ca, cert, key = (files.get(field, "") for field in ("ca", "cert", "key"))
    if key and not cert:
        raise UsageError("TLS: a key without a certificate", hints=["give it with --tlscert"])
    if not (ca or cert or server_name or folder):
        return EnginePlace(url=url)
    pairs = (KeyPair(cert, key),) if cert else ()
    return EnginePlace(
        url=url, tls=Tls(ca=(ca,) if ca else (), keypairs=pairs, only=True), server_name=server_name
    )
