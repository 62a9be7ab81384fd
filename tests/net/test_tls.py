"""The TLS settings of clients and servers, and files that are no certificates."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pybuild.model.errors import UsageError
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.net.tls import make_context, server_context
from tests.daemon.identities import Authority, subject


@pytest.mark.parametrize(("insecure", "mode"), [(False, ssl.CERT_REQUIRED), (True, ssl.CERT_NONE)])
def test_a_server_is_verified_unless_it_is_trusted_blindly(
    insecure: bool, mode: ssl.VerifyMode
) -> None:
    context = make_context(Tls(insecure=insecure))
    assert (context.verify_mode, context.check_hostname) == (mode, not insecure)


@pytest.mark.parametrize("only", [False, True])
def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, only: bool) -> None:
    path = str(tmp_path / "ca.pem")
    with pytest.raises(UsageError, match=f"^certificate {path}: No such file or directory$"):
        make_context(Tls(ca=(path,), only=only))
    Path(path).write_text("none")
    with pytest.raises(UsageError, match=f"^certificate {path}: no certificate or crl found$"):
        make_context(Tls(ca=(path,), only=only))


def test_a_key_pair_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pair = KeyPair(str(tmp_path / "cert"), str(tmp_path / "key"))
    with pytest.raises(UsageError, match=f"^certificate {pair.cert}: No such file or directory$"):
        make_context(Tls(keypairs=(pair,)))
    for path in (pair.cert, pair.key):
        Path(path).write_text("none")
    with pytest.raises(UsageError, match=f"^certificate {pair.cert}: "):
        make_context(Tls(keypairs=(pair,)))


def encrypted_pair(folder: Path) -> KeyPair:
    signed = Authority(folder, "authority").sign(subject(("CN", "x")))
    key = load_pem_private_key(signed.key.read_bytes(), None)
    secret = BestAvailableEncryption(b"password")
    signed.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    return KeyPair(str(signed.certificate), str(signed.key))


def test_an_encrypted_key_is_refused_and_its_password_not_asked_for(tmp_path: Path) -> None:
    pair = encrypted_pair(tmp_path)
    sides: list[Callable[[], ssl.SSLContext]] = [
        lambda: server_context(pair),
        lambda: make_context(Tls(keypairs=(pair,))),
    ]
    for make in sides:
        with pytest.raises(UsageError) as caught:
            make()
        assert caught.value.message == f"certificate {pair.cert}: the key {pair.key} is encrypted"
        assert caught.value.hints == (
            f"write it without its password: openssl pkey -in {pair.key} -out NEW",
        )


def test_a_server_with_an_authority_lets_nobody_in_without_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    signed = authority.sign(subject(("CN", "x")))
    pair = KeyPair(str(signed.certificate), str(signed.key))
    assert server_context(pair).verify_mode == ssl.CERT_NONE
    context = server_context(pair, str(authority.file), protocols=["h2"])
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_file_that_a_server_cannot_use_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    signed = authority.sign(subject(("CN", "x")))
    missing = str(tmp_path / "none")
    with pytest.raises(UsageError, match=f"^certificate {missing}: No such file or directory$"):
        server_context(KeyPair(missing))
    with pytest.raises(UsageError, match=f"^certificate {missing}: No such file or directory$"):
        server_context(KeyPair(str(signed.certificate), str(signed.key)), missing)
