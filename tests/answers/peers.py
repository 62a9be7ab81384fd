"""The servers that mistakes are made against: a registry that refuses by name, and bad certificates."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.webservers import serving

_TYPE = "application/vnd.oci.image.index.v1+json"
_ARM_ONLY = {
    "schemaVersion": 2,
    "mediaType": _TYPE,
    "manifests": [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:" + "1" * 64,
            "size": 2,
            "platform": {"os": "linux", "architecture": "arm64"},
        }
    ],
}


def _error(status: int, code: str, **headers: str) -> web.Response:
    body = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    return web.json_response(body, status=status, headers=headers)


async def _registry(request: web.Request) -> web.StreamResponse:
    path = request.path
    if path == "/file":
        return web.Response(body=b"content")
    if path.startswith("/v2/private/"):
        return _error(401, "UNAUTHORIZED", **{"WWW-Authenticate": 'Basic realm="team"'})
    if path.startswith("/v2/denied/"):
        return _error(403, "DENIED")
    if path.startswith("/v2/limited/"):
        return _error(429, "TOOMANYREQUESTS", **{"Retry-After": "9999"})
    if path.startswith("/v2/broken/"):
        return _error(500, "UNKNOWN", **{"Retry-After": "0"})
    if path == "/v2/team/armonly/manifests/1":
        return web.Response(body=json.dumps(_ARM_ONLY).encode(), content_type=_TYPE)
    if path in ("/v2/team/app/tags/list", "/v2/team/armonly/tags/list"):
        return web.json_response({"name": "team/app", "tags": ["1", "1.1", "latest"]})
    return _error(404, "MANIFEST_UNKNOWN")


def _certificate(
    directory: Path, name: str, subject: x509.GeneralName, *, days: int = 2
) -> ssl.SSLContext:
    """Return the TLS side of a server with a certificate of its own, which ends in *days*."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / f"{name}.crt").write_bytes(made.public_bytes(Encoding.PEM))
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / f"{name}.key").write_bytes(plain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.crt", directory / f"{name}.key")
    return context


@contextmanager
def peers(directory: Path) -> Generator[dict[str, str]]:
    """Serve all; gives their addresses by their names in the books.

    A server whose certificate expired, or is for another host, has one that is trusted otherwise.
    """
    here = x509.IPAddress(IPv4Address("127.0.0.1"))
    private = _certificate(directory, "private", here)
    other = _certificate(directory, "other", x509.DNSName("registry.other.example"))
    expired = _certificate(directory, "expired", here, days=-1)
    with ExitStack() as stack:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", _registry)
        names = {"REGISTRY": stack.enter_context(serving(application))}
        for name, tls in (("PRIVATE", private), ("OTHER", other), ("EXPIRED", expired)):
            names[f"TLS-{name}"] = stack.enter_context(serving(web.Application(), tls))
        down = stack.enter_context(socket.socket())
        down.bind(("127.0.0.1", 0))  # and never listens: nobody else gets the port
        names["DOWN"] = f"127.0.0.1:{down.getsockname()[1]}"
        yield {name: address.rpartition("//")[2] for name, address in names.items()}


def configuration(directory: Path, names: dict[str, str]) -> str:
    """Return a configuration that trusts those whose certificates are wrong in another way."""
    return "".join(
        f'[registry."{names[f"TLS-{name}"]}"]\nca = ["{directory}/{name.lower()}.crt"]\n'
        for name in ("OTHER", "EXPIRED")
    )
