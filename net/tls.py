"""TLS settings of either side, made of files [REG-9, REG-10]."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from pybuild.model.errors import UsageError
from pybuild.model.trust import trusting
from pybuild.net.http1.tlsfiles import KeyPair, Tls

T = TypeVar("T")


def make_context(tls: Tls) -> ssl.SSLContext:
    """Build the TLS settings of a client.

    Raises:
        UsageError: a file cannot be read or holds no certificate.
    """
    # Of a file alone, or of the system and files.
    first = tls.ca[:1] if tls.only else ()
    context = _load(first[0], lambda: trusting(first[0])) if first else trusting()
    for name in tls.ca[len(first) :]:
        _load(name, lambda name=name: context.load_verify_locations(cafile=name))  # type: ignore[misc]
    for pair in tls.keypairs:
        _load_pair(context, pair)
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def server_context(pair: KeyPair, ca: str = "", *, protocols: Sequence[str] = ()) -> ssl.SSLContext:
    """Build the TLS settings of a server; with *ca*, clients must have a certificate of it.

    Raises:
        UsageError: a file cannot be read or holds no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if protocols:
        context.set_alpn_protocols(list(protocols))
    _load_pair(context, pair)
    if ca:
        _load(ca, lambda: context.load_verify_locations(cafile=ca))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    def refuse() -> str:
        # Without an answer of ours OpenSSL would ask on the terminal, and wait.
        raise UsageError(
            f"certificate {pair.cert}: the key {pair.key or 'in it'} is encrypted",
            hints=[
                f"write it without its password: openssl pkey -in {pair.key or pair.cert} -out NEW"
            ],
        )

    key = pair.key or None
    _load(pair.cert, lambda: context.load_cert_chain(pair.cert, key, password=refuse))


def _load(name: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except ssl.SSLError as error:
        reason = (error.reason or "not a PEM file").lower().replace("_", " ")
        raise UsageError(f"certificate {name}: {reason}") from error
    except OSError as error:
        raise UsageError(f"certificate {name}: {error.strerror}") from error
