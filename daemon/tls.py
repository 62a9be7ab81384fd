"""TLS on both sides of the server's TCP addresses."""

from __future__ import annotations

import ssl

from pybuild.engine.settings import Daemon
from pybuild.model.errors import UsageError


def server_context(daemon: Daemon) -> ssl.SSLContext:
    """Return the server's side; clients need a certificate where an authority is given.

    Raises:
        UsageError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(daemon.cert, daemon.key or None)
        if daemon.ca:
            context.load_verify_locations(daemon.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (daemon.cert, daemon.key, daemon.ca)))
        raise UsageError(f"cannot use the certificates {files}: {error}") from error
    return context
