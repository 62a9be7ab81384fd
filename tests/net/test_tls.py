"""The TLS settings of a client, and files that are no certificates."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pybuild.model.errors import UsageError
from pybuild.net.http1.tlsfiles import KeyPair, Tls
from pybuild.net.tls import make_context


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
