"""Authorities and the certificates that they sign, down to how their names are encoded."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.name import _ASN1Type as Asn1  # pyright: ignore[reportPrivateUsage]
from cryptography.x509.oid import NameOID, ObjectIdentifier

_OIDS = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
}
PRINTABLE, UTF8, BMP = Asn1.PrintableString, Asn1.UTF8String, Asn1.BMPString
Pair = tuple[str, str] | tuple[str, str, Asn1]


def subject(*parts: Pair | list[Pair]) -> x509.Name:
    """Return a name; a list is one part with several values."""
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                [_attribute(one) for one in (part if isinstance(part, list) else [part])]
            )
            for part in parts
        ]
    )


def _attribute(pair: Pair) -> x509.NameAttribute[str]:
    kind = pair[2] if len(pair) == 3 else UTF8
    return x509.NameAttribute(_OIDS[pair[0]], pair[1], kind)


def other_name(value: bytes) -> x509.GeneralName:
    """Return a user principal name, which Python's own view of certificates leaves out."""
    return x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), value)


@dataclass(frozen=True)
class Signed:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    der: bytes


class Authority:
    """Signs whatever names it is given."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = subject(("CN", name))
        self._count = 0
        made = self._sign(self._name, (), self._key, is_authority=True)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(made.public_bytes(Encoding.PEM))

    def sign(self, name: x509.Name, *others: x509.GeneralName, is_expired: bool = False) -> Signed:
        """Make a key, and a certificate of it."""
        self._count += 1
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._sign(name, others, key, is_expired=is_expired)
        where = self._folder / f"{self.file.stem}-{self._count}"
        certificate, secret = where.with_suffix(".crt"), where.with_suffix(".key")
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Signed(certificate, secret, made.public_bytes(Encoding.DER))

    def _sign(
        self,
        name: x509.Name,
        others: Sequence[x509.GeneralName],
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool = False,
        is_expired: bool = False,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(hours=-1 if is_expired else 24))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )
        if is_authority:
            usage = x509.KeyUsage(
                **dict.fromkeys(
                    ("digital_signature", "content_commitment", "key_encipherment")
                    + ("data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
                    False,
                ),
                key_cert_sign=True,
                crl_sign=True,
            )
            builder = builder.add_extension(usage, critical=True)
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=not name)
        return builder.sign(self._key, SHA256())
