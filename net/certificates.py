"""X.509 certificates of an authority of ours, and of hosts that it vouches for [RFC 5280].

Keys are of the curve P-256, and signatures are ECDSA's [SEC 1; FIPS 186-5], in Python's own numbers: a
signature takes some milliseconds, and is needed once for each host. Who can measure times of this process
to the nanosecond, again and again, could learn of its keys: so no server signs with a key that lasts. A
command may, once for each of a few hosts.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
import time

_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_P256 = "1.2.840.10045.3.1.7"
_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_COMMON_NAME, _ORGANIZATION, _UNIT = "2.5.4.3", "2.5.4.10", "2.5.4.11"
_SUBJECT_KEY, _KEY_USAGE, _OTHER_NAMES = "2.5.29.14", "2.5.29.15", "2.5.29.17"
_BASIC, _AUTHORITY_KEY, _EXTENDED = "2.5.29.19", "2.5.29.35", "2.5.29.37"
_SERVER, _CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"

_DIGITAL_SIGNATURE = (
    b"\x07\x80"  # bit strings begin with the number of bits that are no part of them
)
_SIGNS_CERTIFICATES = b"\x02\x84"
_DAY_S = 86_400
_LEEWAY_S = 3600  # clocks in steps may be behind
_MOST_NAME = 64  # of a common name


class SigningKey:
    """A private key and its public one.

    Attributes:
        public: uncompressed, as it stands in certificates.
    """

    def __init__(self, secret: int | None = None) -> None:
        self._secret = secrets.randbelow(_N - 1) + 1 if secret is None else secret
        x, y = _times(self._secret)
        self.public = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")

    @classmethod
    def from_pem(cls, text: str) -> SigningKey:
        """Return the key that `pem` wrote.

        Raises:
            ValueError: it wrote none of this.
        """
        lines = text.strip().splitlines()
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
        key = cls(int.from_bytes(data[7:39], "big") % _N or 1)
        if key.pem().split() != text.split():
            raise ValueError("no key of pybuild's own authorities")
        return key

    @property
    def id(self) -> bytes:
        """The name by which certificates refer to it."""
        return hashlib.sha1(self.public, usedforsecurity=False).digest()

    def sign(self, data: bytes) -> bytes:
        """Return the signature of *data*: ECDSA with SHA-256, DER."""
        digest = int.from_bytes(hashlib.sha256(data).digest(), "big")
        while True:
            once = secrets.randbelow(_N - 1) + 1
            r = _times(once)[0] % _N
            s = pow(once, -1, _N) * (digest + r * self._secret) % _N
            if r and s:
                return _sequence(_integer(r), _integer(s))

    def pem(self) -> str:
        """Return the private key, PEM [RFC 5915]."""
        key = _sequence(
            _integer(1),
            _tagged(0x04, self._secret.to_bytes(32, "big")),
            _tagged(0xA0, _oid(_P256)),
            _tagged(0xA1, _bits(self.public)),
        )
        return _pem("EC PRIVATE KEY", key)


class Authority:
    """A certificate authority with a key of its own.

    Args:
        name: of the authority.
        days: as long as certificates hold.
        key: of an authority of that name that was made before.

    Attributes:
        certificate: its own, PEM.
        key: the one that it signs with.
    """

    def __init__(self, name: str, days: float, key: SigningKey | None = None) -> None:
        self._name = _name((_COMMON_NAME, name))
        self._days = days
        self.key = key or SigningKey()
        self._hosts_key: SigningKey | None = None  # one for all: the same process serves them
        extensions = (
            _extension(_BASIC, _sequence(_tagged(0x01, b"\xff")), critical=True),
            _extension(_KEY_USAGE, _tagged(0x03, _SIGNS_CERTIFICATES), critical=True),
            _extension(_SUBJECT_KEY, _tagged(0x04, self.key.id)),
        )
        self.certificate = self._signed(self._name, self.key, extensions)

    def of_host(self, host: str) -> str:
        """Return the certificate of *host*, a name or an address, and its private key, PEM."""
        self._hosts_key = key = self._hosts_key or SigningKey()
        return self._of(host, key, _name((_COMMON_NAME, host[:_MOST_NAME])), (_SERVER,)) + key.pem()

    def of_member(self, organization: str, unit: str, host: str) -> tuple[str, str]:
        """Return the certificate of one of an organization's unit at *host*, for either side; and its key."""
        key = SigningKey()
        subject = _name(
            (_ORGANIZATION, organization), (_UNIT, unit), (_COMMON_NAME, host[:_MOST_NAME])
        )
        return self._of(host, key, subject, (_SERVER, _CLIENT)), key.pem()

    def _of(self, host: str, key: SigningKey, subject: bytes, purposes: tuple[str, ...]) -> str:
        try:
            other_name = _tagged(0x87, ipaddress.ip_address(host).packed)
        except ValueError:
            other_name = _tagged(0x82, host.encode("idna" if not host.isascii() else "ascii"))
        extensions = (
            _extension(_BASIC, _sequence(), critical=True),
            _extension(_KEY_USAGE, _tagged(0x03, _DIGITAL_SIGNATURE), critical=True),
            _extension(_EXTENDED, _sequence(*map(_oid, purposes))),
            _extension(_SUBJECT_KEY, _tagged(0x04, key.id)),
            _extension(_AUTHORITY_KEY, _sequence(_tagged(0x80, self.key.id))),
            _extension(_OTHER_NAMES, _sequence(other_name)),
        )
        return self._signed(subject, key, extensions)

    def _signed(self, subject: bytes, key: SigningKey, extensions: tuple[bytes, ...]) -> str:
        now = time.time()
        algorithm = _sequence(_oid(_ECDSA_SHA256))
        body = _sequence(
            _tagged(0xA0, _integer(2)),  # version 3
            _integer(secrets.randbits(126) | 1 << 126),
            algorithm,
            self._name,
            _sequence(_time(now - _LEEWAY_S), _time(now + self._days * _DAY_S)),
            subject,
            _sequence(_sequence(_oid(_EC_PUBLIC_KEY), _oid(_P256)), _bits(key.public)),
            _tagged(0xA3, _sequence(*extensions)),
        )
        return _pem("CERTIFICATE", _sequence(body, algorithm, _bits(self.key.sign(body))))


# --- DER [X.690] ----------------------------------------------------------------------------------


def _tagged(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(content: bytes) -> bytes:
    return _tagged(0x03, b"\0" + content)


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    out = bytearray((first * 40 + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        out += bytes(reversed(groups))
    return _tagged(0x06, bytes(out))


def _name(*attributes: tuple[str, str]) -> bytes:
    sets = [
        _tagged(0x31, _sequence(_oid(kind), _tagged(0x0C, text.encode())))
        for kind, text in attributes
    ]
    return _sequence(*sets)


def _time(seconds: float) -> bytes:
    return _tagged(0x17, time.strftime("%y%m%d%H%M%SZ", time.gmtime(seconds)).encode())


def _extension(id: str, value: bytes, *, critical: bool = False) -> bytes:
    mark = _tagged(0x01, b"\xff") if critical else b""
    return _sequence(_oid(id), mark, _tagged(0x04, value))


def _pem(kind: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


# --- the curve ------------------------------------------------------------------------------------


def _times(factor: int) -> tuple[int, int]:
    """Return the base point *factor* times, in Jacobian coordinates on the way."""
    x, y, z = 0, 1, 0
    for bit in bin(factor)[2:]:
        x, y, z = _doubled(x, y, z)
        if bit == "1":
            x, y, z = _added(x, y, z)
    inverse = pow(z, -1, _P)
    return x * inverse**2 % _P, y * inverse**3 % _P


def _doubled(x: int, y: int, z: int) -> tuple[int, int, int]:
    square = y * y % _P
    middle = 4 * x * square % _P
    slope = 3 * (x - z * z) * (x + z * z) % _P
    new = (slope * slope - 2 * middle) % _P
    return new, (slope * (middle - new) - 8 * square * square) % _P, 2 * y * z % _P


def _added(x: int, y: int, z: int) -> tuple[int, int, int]:
    """Add the base point, which no multiple of it that is met here is, nor its inverse."""
    if not z:
        return _G[0], _G[1], 1
    squared = z * z % _P
    across = (_G[0] * squared - x) % _P
    up = (_G[1] * squared * z - y) % _P
    square = across * across % _P
    cube = square * across % _P
    new = (up * up - cube - 2 * x * square) % _P
    return new, (up * (x * square - new) - y * cube) % _P, z * across % _P
