"""TLS settings made of files [REG-9, REG-10]."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from pybuild.model.errors import UsageError
from pybuild.model.trust import trusting
from pybuild.net.http1.tlsfiles import Tls

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
        # An encrypted key would otherwise ask on the terminal.
        _load(
            pair.cert,
            lambda pair=pair: context.load_cert_chain(pair.cert, pair.key, password=_no_password),  # type: ignore[misc]
        )
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    return ""


def _load(name: str, load: Callable[[], T]) -> T:
    try:
        return load()
    except ssl.SSLError as error:
        reason = (error.reason or "not a PEM file").lower().replace("_", " ")
        raise UsageError(f"certificate {name}: {reason}") from error
    except OSError as error:
        raise UsageError(f"certificate {name}: {error.strerror}") from error
