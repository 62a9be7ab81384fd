"""Certificates of an authority of ours, as OpenSSL reads them [RFC 5280]."""

from __future__ import annotations

import os
import ssl

import pytest

from pybuild.net.certificates import Authority, SigningKey


def _server(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fd = os.memfd_create("certificate")
    try:
        os.write(fd, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def _shake_hands(authority: Authority, pem: str, name: str) -> None:
    """Shake hands as strictly as a client can."""
    strict = ssl.create_default_context(cadata=authority.certificate)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    wires = [ssl.MemoryBIO() for _ in range(4)]
    near = strict.wrap_bio(wires[0], wires[1], server_hostname=name)
    far = _server(pem).wrap_bio(wires[2], wires[3], server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            wires[2].write(wires[1].read())
            wires[0].write(wires[3].read())
    near.do_handshake()


@pytest.mark.parametrize("host", ["example.com", "under_score.example", "127.0.0.1", "::1"])
def test_a_client_trusts_a_host_by_its_authority(host: str) -> None:
    authority = Authority("tests", 1)
    _shake_hands(authority, authority.of_host(host), host)


def test_no_client_trusts_another_host_or_another_authority() -> None:
    authority = Authority("tests", 1)
    pem = authority.of_host("example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _shake_hands(authority, pem, "other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(Authority("tests", 1), pem, "example.com")


def test_a_name_longer_than_a_common_name_may_be_is_in_the_list_of_names() -> None:
    authority = Authority("tests", 1)
    host = f"{'a' * 60}.{'b' * 60}.example"
    _shake_hands(authority, authority.of_host(host), host)


def test_no_two_signatures_are_alike() -> None:
    """A number that is used twice would tell the key."""
    key = SigningKey()
    assert key.sign(b"text") != key.sign(b"text")
