"""Tokens of another issuer, such as an organisation's own: believed by its public keys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError
from pybuild.registry.server.access import Caller
from pybuild.registry.server.tokens import BadToken, Unpacked, caller_of, unpacked

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_PEM = re.compile(rb"-----BEGIN (CERTIFICATE|PUBLIC KEY)-----\n.*?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ForeignIssuer:
    """Checks tokens that somebody else signs.

    Attributes:
        name: the issuer that the tokens state.
        keys: any of which may have signed.
        url: where clients get them; empty: they know.
    """

    name: str
    keys: Sequence[PublicKeyTypes]
    url: str = ""

    def caller(self, token: str, service: str, now: float) -> Caller:
        """Return the caller that *token* names, with the rights that it gives.

        Raises:
            BadToken: not signed by one of the keys, for another service, or not valid now.
        """
        parts = unpacked(token)
        if not any(_has_signed(key, parts) for key in self.keys):
            raise BadToken("its signature is wrong")
        return caller_of(parts.claims, self.name, service, now)


def _has_signed(key: PublicKeyTypes, parts: Unpacked) -> bool:
    """Return whether *key* has signed; the kind of key decides the algorithm, not the token."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    algorithm, signed, signature = parts.header.get("alg"), parts.signed, parts.signature
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm == "RS256":
            key.verify(signature, signed, padding.PKCS1v15(), SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == "ES256":
            if not isinstance(key.curve, ec.SECP256R1) or len(signature) != 64:
                return False
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey) and algorithm == "EdDSA":
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def read_keys(path: str) -> list[PublicKeyTypes]:
    """Return the public keys, and those of the certificates, in a PEM file.

    Raises:
        UsageError: it cannot be read, or holds none, or the library is not installed.
    """
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from cryptography.x509 import load_pem_x509_certificate
    except ImportError as error:
        raise UsageError(
            "tokens of another issuer need the library cryptography",
            hints=["pip install 'pybuild-oci[issuers]'"],
        ) from error
    try:
        with open(path, "rb") as file:
            text = file.read()
        keys: list[PublicKeyTypes] = []
        for match in _PEM.finditer(text):
            if match[1] == b"CERTIFICATE":
                keys.append(load_pem_x509_certificate(match[0]).public_key())
            else:
                keys.append(load_pem_public_key(match[0]))
    except OSError as error:
        raise UsageError(f"issuer's keys {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"issuer's keys {path}: {error}") from error
    if not keys:
        raise UsageError(f"issuer's keys {path}: no PUBLIC KEY or CERTIFICATE in it")
    return keys
