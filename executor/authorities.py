"""The certificate authorities that steps trust beside their image's own: `--ca`, or `[ca]` in the configuration.

A bundle and a Java trust store are mounted, and variables name them; the layer, the image's
configuration and the key know nothing of it. Where a Dockerfile sets one of the variables, its value
holds. What replaces a program's own authorities gets those of this machine, too.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable, Sequence
from hashlib import sha1
from struct import pack

from pybuild.executor.steps.spec import StepMount, StepMountType
from pybuild.model.errors import UserError

HOST = "host"
"""In the list of files: the authorities of this machine alone."""

_PLACE = "/run/pybuild/ca"
_BUNDLE = f"{_PLACE}/bundle.pem"
_STORE = f"{_PLACE}/java.jks"
_APT = f"{_PLACE}/apt.conf"
_WGET = f"{_PLACE}/wgetrc"
_PASSWORD = "changeit"  # of Java's own trust store, and what its tools try first
_VARIABLES = (
    "SSL_CERT_FILE",  # openssl, and with it Python, Ruby, PHP; Go, uv, rustls
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",  # node, npm, yarn, pnpm
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "NIX_SSL_CERT_FILE",
)
_TRUST_STORE = "-Djavax.net.ssl.trustStore="
_JAVA = f"{_TRUST_STORE}{_STORE} -Djavax.net.ssl.trustStorePassword={_PASSWORD}"
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS")
_ENVIRONMENT = (
    *(f"{name}={_BUNDLE}" for name in _VARIABLES),
    f"APT_CONFIG={_APT}",
    f"WGETRC={_WGET}",  # Debian's wget knows no other variable
)

_HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
_MOST_BYTES = 16 << 20
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

# The words of openssl, curl, git with gnutls, pip, node, npm, Go, Java, rustls, wget and apt.
_REFUSALS = (
    "certificate verify failed",
    "unable to get local issuer certificate",
    "self-signed certificate",
    "self signed certificate",
    "self_signed_cert_in_chain",
    "unable_to_get_issuer_cert_locally",
    "unable_to_verify_leaf_signature",
    "unable to verify the first certificate",
    "server certificate verification failed",
    "server verification failed: certificate",
    "certificate signed by unknown authority",
    "unable to find valid certification path",
    "invalid peer certificate: unknownissuer",
    "issued by an unknown authority",
    "the certificate issuer is unknown",
    "the certificate is not trusted",
    "doesn't have a known issuer",
)


class Authorities:
    """The authorities that the steps of one build trust.

    Args:
        files: PEM files, and `HOST`.
        folder: of the bundle, among what the steps of a build share.
    """

    def __init__(self, files: Sequence[str], folder: str = "ca") -> None:
        self._files = files
        self._folder = folder
        self._mount: StepMount | None = None
        self._lock = asyncio.Lock()

    def environment(self, own: Sequence[str]) -> tuple[str, ...]:
        """Return the variables of a step, over which its *own* win.

        Many images set JAVA_TOOL_OPTIONS for the heap's size alone: Java then reads the trust store from
        the second variable that it has for options, which wins over the first.
        """
        java = {name: value for name, _, value in (variable.partition("=") for variable in own)}
        taken = [java[name] for name in _JAVA_VARIABLES if name in java]
        if any(_TRUST_STORE in value for value in taken) or len(taken) == len(_JAVA_VARIABLES):
            return _ENVIRONMENT
        free = next(name for name in _JAVA_VARIABLES if name not in java)
        return (*_ENVIRONMENT, f"{free}={_JAVA}")

    async def mount(self, directory: str) -> StepMount:
        """Return the mount of the bundle and the trust store; they are written once, below *directory*.

        Raises:
            UserError: a file cannot be read, or has no certificate.
        """
        async with self._lock:
            if self._mount is None:
                place = f"{directory}/{self._folder}"
                await asyncio.to_thread(_write, place, self._files)
                self._mount = StepMount(
                    type=StepMountType.BIND_PATH, target=_PLACE, source=place, readonly=True
                )
            return self._mount


def hint(output: Iterable[str], trusts_more: bool) -> str:
    """Return the way out for a step whose last lines refuse a certificate; "" where they do not.

    Args:
        trusts_more: the step trusted authorities of this machine already.
    """
    lines = [line.lower() for line in output]
    if not any(words in line for words in _REFUSALS for line in lines):
        return ""
    if trusts_more:
        return "the authority of that certificate is in none of the files of --ca: add the one that has it, --ca FILE"
    return "if it is this network's own authority: --ca host has steps trust what this machine trusts, --ca FILE one more"


def certificates(text: str) -> list[bytes]:
    """Return the certificates of a PEM text in its order, DER, each once; keys and remarks are left out.

    Raises:
        ValueError: one is none.
    """
    unique: dict[bytes, None] = {}
    for part in text.split(_BEGIN)[1:]:
        body, end, _ = part.partition(_END)
        if end:
            certificate = ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{_END}")
            if certificate[:1] != b"\x30":  # a SEQUENCE, as every certificate is
                raise ValueError("not the text of one")
            unique[certificate] = None
    return list(unique)


def trust_store(trusted: Sequence[bytes]) -> bytes:
    """Return a Java key store of trusted certificates, in the format JKS that every Java reads."""
    store = bytearray(pack(">III", 0xFEEDFEED, 2, len(trusted)))
    for number, certificate in enumerate(trusted):
        store += pack(">I", 2) + _text(f"ca{number}") + pack(">Q", 0)  # made at no time
        store += _text("X.509") + pack(">I", len(certificate)) + certificate
    # The format's own salt; that its readers refuse a changed store, not that nobody can change it.
    seal = sha1(_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + store, usedforsecurity=False)
    return bytes(store) + seal.digest()


def _text(text: str) -> bytes:
    return pack(">H", len(text)) + text.encode("ascii")


def _write(place: str, files: Sequence[str]) -> None:
    trusted = [cert for name in files if name != HOST for cert in _read(name)]
    trusted += _of_host(required=HOST in files)
    trusted = list(dict.fromkeys(trusted))
    bundle = "".join(map(ssl.DER_cert_to_PEM_cert, trusted))
    os.mkdir(place, 0o755)
    for name, data in (
        (_BUNDLE, bundle.encode()),
        (_STORE, trust_store(trusted)),
        (_APT, f'Acquire::https::CaInfo "{_BUNDLE}";\n'.encode()),
        (_WGET, f"ca_certificate = {_BUNDLE}\n".encode()),
    ):
        path = f"{place}/{os.path.basename(name)}"
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o644)
    os.chmod(place, 0o755)


def _of_host(*, required: bool) -> list[bytes]:
    """Return the authorities that programs of this machine trust."""
    for path in filter(None, (os.environ.get("SSL_CERT_FILE"), *_HOST_BUNDLES)):
        # One that somebody named has to be there.
        if path not in _HOST_BUNDLES or os.path.exists(path):
            return _read(path)
    if required:
        raise UserError(
            "this machine has no bundle of certificate authorities",
            hints=[
                "install its ca-certificates, name the file in SSL_CERT_FILE, or give --ca FILE"
            ],
        )
    return []


def _read(path: str) -> list[bytes]:
    hints = ("--ca takes host, none, or a PEM file of certificates",)
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError(f"certificate authority {path}: no such file", hints=hints) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"certificate authority {path}: {reason}", hints=hints) from error
    problem = "no certificate in it"
    try:
        read = certificates(data.decode("utf-8", "replace")) if len(data) <= _MOST_BYTES else []
    except ValueError as error:
        read, problem = [], f"a certificate in it is damaged: {error}"
    if not read:
        raise UserError(f"certificate authority {path}: {problem}", hints=hints)
    return read
