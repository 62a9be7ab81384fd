"""Certificates that are one owner, and those that name nobody at all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")

from cryptography import x509

from pybuild.net.grpc.certificate import identity
from tests.daemon.identities import (
    BMP,
    PRINTABLE,
    UTF8,
    Authority,
    other_name,
    subject,
)

DNS, URI, MAIL = x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name
Names = tuple[x509.Name, list[x509.GeneralName]]


def names(name: x509.Name, *others: x509.GeneralName) -> Names:
    return name, list(others)


# Two that must not be taken for each other, by what is alike in them.
STRANGERS: dict[str, tuple[Names, Names]] = {
    "no-common-name": (names(subject(("O", "a"))), names(subject(("O", "b")))),
    "no-subject": (names(subject(), DNS("a")), names(subject(), DNS("b"))),
    "organisation": (
        names(subject(("CN", "ann"), ("O", "a"))),
        names(subject(("CN", "ann"), ("O", "b"))),
    ),
    "unit": (
        names(subject(("OU", "a"), ("CN", "ann"))),
        names(subject(("OU", "b"), ("CN", "ann"))),
    ),
    "one-has-more": (names(subject(("CN", "ann"))), names(subject(("CN", "ann"), ("O", "a")))),
    "alternative-name": (
        names(subject(("CN", "ann")), DNS("a")),
        names(subject(("CN", "ann")), DNS("b")),
    ),
    "one-alternative-more": (
        names(subject(("CN", "ann")), DNS("a")),
        names(subject(("CN", "ann")), DNS("a"), DNS("b")),
    ),
    "alternative-kind": (
        names(subject(("CN", "ann")), DNS("a.b")),
        names(subject(("CN", "ann")), URI("a.b")),
    ),
    "unknown-kind": (
        names(subject(("CN", "ann")), other_name(b"\x0c\x01a")),
        names(subject(("CN", "ann")), other_name(b"\x0c\x01b")),
    ),
    "order": (
        names(subject(("O", "a"), ("O", "b"))),
        names(subject(("O", "b"), ("O", "a"))),
    ),
    "string-type": (names(subject(("CN", "ann", PRINTABLE))), names(subject(("CN", "ann", UTF8)))),
    "wide-string": (names(subject(("CN", "ann", UTF8))), names(subject(("CN", "ann", BMP)))),
    "comma": (
        names(subject(("CN", "ann"), ("O", "a"))),
        names(subject(("CN", "ann,O=a"))),
    ),
    "several-values": (
        names(subject([("CN", "ann"), ("O", "a")])),
        names(subject(("CN", "ann"), ("O", "a"))),
    ),
    "moved-to-another-field": (names(subject(("CN", "a"))), names(subject(("O", "a")))),
    "subject-or-alternative": (names(subject(("CN", "a"))), names(subject(), DNS("a"))),
    "case": (names(subject(("CN", "ann"))), names(subject(("CN", "Ann")))),
    "space": (names(subject(("CN", "ann"))), names(subject(("CN", "ann ")))),
    "nul": (names(subject(("CN", "ann"))), names(subject(("CN", "ann\0")))),
    "twins-in-unicode": (names(subject(("CN", "\u00e9"))), names(subject(("CN", "e\u0301")))),
    "look-alike": (names(subject(("CN", "ann"))), names(subject(("CN", "\u0430nn")))),
    "last-common-name": (
        names(subject(("CN", "x"), ("CN", "ann"))),
        names(subject(("CN", "y"), ("CN", "ann"))),
    ),
}
NOBODY: dict[str, Names] = {
    "nothing": names(subject()),
    "blank": names(subject(("CN", " "))),
    "zero": names(subject(("CN", "\0"), ("O", " "))),
    "blank-alternative": names(subject(), DNS(" ")),
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ca")


@pytest.mark.parametrize("case", STRANGERS)
def test_names_that_differ_anywhere_are_two_owners(authority: Authority, case: str) -> None:
    (one, its), (other, others) = STRANGERS[case]
    first, second = authority.sign(one, *its), authority.sign(other, *others)
    assert identity(first.der) and identity(second.der)
    assert identity(first.der) != identity(second.der)


def test_what_another_authority_signed_is_another_owner(tmp_path: Path) -> None:
    name = subject(("CN", "ann"))
    first, second = (Authority(tmp_path, of).sign(name, DNS("a")) for of in ("one", "two"))
    assert identity(first.der) != identity(second.der)


def test_a_renewed_certificate_is_the_same_owner(authority: Authority) -> None:
    """Another key, serial number and time: whoever has the old one loses nothing."""
    name = subject(("O", "a"), ("CN", "ann"))
    first, second = (authority.sign(name, DNS("a"), MAIL("ann@a")) for _ in range(2))
    assert first.der != second.der and identity(first.der) == identity(second.der)


@pytest.mark.parametrize("case", NOBODY)
def test_a_certificate_that_names_nobody_has_no_identity(authority: Authority, case: str) -> None:
    name, others = NOBODY[case]
    assert identity(authority.sign(name, *others).der) == ""


def test_bytes_that_are_no_certificate_are_refused_whatever_they_are(authority: Authority) -> None:
    der = authority.sign(subject(("CN", "ann")), DNS("a")).der
    broken = [der[:length] for length in range(len(der))]
    broken += [der + b"\0", b"\x30\x80\0\0", b"\x30\x84\xff\xff\xff\xff", b"\x1f\x81\x01\x00"]
    for data in broken:
        with pytest.raises(ValueError, match="element|certificate"):
            identity(data)
    for at in range(len(der)):  # changed anywhere: an identity or a ValueError, nothing else
        for bit in (1, 0x20, 0x80):
            try:
                identity(der[:at] + bytes([der[at] ^ bit]) + der[at + 1 :])
            except ValueError:
                pass


def test_names_may_be_as_deep_as_their_authority_likes(authority: Authority) -> None:
    deep = b"\x04\x01a"
    while len(deep) < 60_000:
        size = len(deep)
        length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
        deep = b"\x30" + length + deep
    assert identity(authority.sign(subject(), other_name(deep)).der)
