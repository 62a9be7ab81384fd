"""The identity that a client's certificate states: its issuer, its whole subject, its other names.

It is taken from the certificate's own bytes, not from text that a library made of them: text leaves
out kinds of names that the library does not know, and two different lists of names may read alike.
Whether the certificate is to be trusted has been decided before.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from hashlib import sha256
from time import strptime

_OCTETS, _OID, _SEQUENCE = 0x04, 0x06, 0x30
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_CONSTRUCTED, _LONG = 0x20, 0x1F
_OTHER_NAMES = b"\x55\x1d\x11"  # 2.5.29.17, subjectAltName
_UNIT = b"\x55\x04\x0b"  # 2.5.4.11, organizationalUnitName
_YEAR_OF_TWO = 0x17  # UTCTime
_BLANK = b" \0"


def identity(certificate: bytes) -> str:
    """Return one short text per issuer, subject and alternative names; empty without a name.

    Args:
        certificate: in DER.

    Raises:
        ValueError: it is none, or not in DER.
    """
    fields = _fields(certificate)
    (_, _, issuer), (_, names, subject) = fields[2], fields[4]
    others = [
        value
        for tag, extensions, _ in fields[6:]
        if tag == _EXTENSIONS
        for value in _other_names(extensions)
    ]
    if not _has_text(names) and not any(_has_text(_only(value, _SEQUENCE)) for value in others):
        return ""
    # Each part tells its own length, so that no two lists of parts give the same bytes.
    return sha256(b"".join((issuer, subject, *others))).hexdigest()


def units(certificate: bytes) -> tuple[str, ...]:
    """Return the organizational units of the subject, of the certificates of a cluster their roles.

    Raises:
        ValueError: as `identity`.
    """
    _, names, _ = _fields(certificate)[4]
    attributes = [list(_each(_only(one, _SEQUENCE))) for _, one, _ in _each(names)]
    return tuple(
        value.decode("utf-8", "replace")
        for (tag, kind, _), (_, value, _) in attributes
        if (tag, kind) == (_OID, _UNIT)
    )


def valid_until(certificate: bytes) -> float:
    """Return when it expires, in seconds since the epoch.

    Raises:
        ValueError: as `identity`.
    """
    _, times, _ = _fields(certificate)[3]
    _, (tag, until, _) = _each(times)
    text = until.decode("ascii")
    if tag == _YEAR_OF_TWO:  # the years 1950 to 2049 [RFC 5280, 4.1.2.5.1]
        text = ("19" if text[:2] >= "50" else "20") + text
    return timegm(strptime(text, "%Y%m%d%H%M%SZ"))


def _fields(certificate: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return serial, algorithm, issuer, validity, subject, key and what follows."""
    fields = list(_each(_first(_only(certificate, _SEQUENCE), _SEQUENCE)))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("a certificate with too few fields")
    return fields


def _other_names(extensions: bytes) -> Iterator[bytes]:
    for _, extension, _ in _each(_first(extensions, _SEQUENCE)):
        fields = list(_each(extension))
        if fields and fields[0][:2] == (_OID, _OTHER_NAMES):
            if fields[-1][0] != _OCTETS:
                raise ValueError("alternative names that are no octets")
            yield fields[-1][1]


def _has_text(content: bytes) -> bool:
    """Return whether any value below has text; kinds of names alone name nobody."""
    below = [content]  # no recursion: how deep it goes is the certificate's choice
    while below:
        for tag, value, _ in _each(below.pop()):
            if tag & _CONSTRUCTED:
                below.append(value)
            elif tag != _OID and value.strip(_BLANK):
                return True
    return False


def _first(data: bytes, tag: int) -> bytes:
    for first, content, _ in _each(data):
        if first == tag:
            return content
        break
    raise ValueError(f"no element {tag:#x} where one has to be")


def _only(data: bytes, tag: int) -> bytes:
    elements = list(_each(data))
    if len(elements) != 1 or elements[0][0] != tag:
        raise ValueError(f"not one element {tag:#x}")
    return elements[0][1]


def _each(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield tag, content and whole of each element, one after the other."""
    at = 0
    while at < len(data):
        if len(data) - at < 2 or data[at] & _LONG == _LONG:
            raise ValueError("an element that is cut off, or of a long tag")
        length, begin = data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or begin + count > len(data):
                raise ValueError("an element of no definite length")
            length = int.from_bytes(data[begin : begin + count], "big")
            begin += count
        if begin + length > len(data):
            raise ValueError("an element that is cut off")
        yield data[at], data[begin : begin + length], data[at : begin + length]
        at = begin + length
