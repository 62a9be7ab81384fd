"""Whom TLS trusts: the system's authorities or those of a file, whatever Python we run on."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl


def trusting(ca: str | None = None) -> ssl.SSLContext:
    """Return a client's side of TLS that verifies certificates and host names.

    From 3.13 on Python refuses authorities that lack some extensions of RFC 5280. Those that people
    make with openssl for a registry of their own lack them, and every other builder takes them.

    Args:
        ca: a PEM file of authorities, in place of the system's.

    Raises:
        OSError, ssl.SSLError among them: *ca* cannot be used.
    """
    import ssl

    context = ssl.create_default_context(cafile=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
