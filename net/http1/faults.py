"""The faults below HTTP, sorted by what can be done about them."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.model.errors import EnvironmentFault
from pybuild.net.http1.answer import BadAnswer
from pybuild.net.http1.connection import Cut

if TYPE_CHECKING:
    from yarl import URL

_DIALS = 3  # a host that is not there should be said soon


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
PLAIN_REASONS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF_WHILE_READING")


class HttpFault(EnvironmentFault):
    """A server did not do what it was asked.

    Attributes:
        status: the HTTP status; 0 when there was no usable answer.
        authority: host and port, if one was named, of the server that was asked; "" where nobody
            needs to know.
    """

    def __init__(
        self, message: str, *, status: int = 0, hints: Sequence[str] = (), authority: str = ""
    ) -> None:
        super().__init__(message, hints=hints)
        self.status = status
        self.authority = authority


class Untrusted(HttpFault):
    """The server's certificate comes from nobody that we trust, or is for another name."""


class BadRedirect(HttpFault):
    """An answer leads to no URL, out of TLS, back to where it must not lead, or round and round."""


class ConnectionLost(HttpFault):
    """No connection, a cut one or silence; worth another try.

    Attributes:
        unsent: the request surely had no effect.
        tries: how many tries are worth it in all.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        hints: Sequence[str] = (),
        authority: str = "",
        unsent: bool = False,
        tries: int = 1000,
    ) -> None:
        super().__init__(message, status=status, hints=hints, authority=authority)
        self.unsent = unsent
        self.tries = tries


class NotTls(ConnectionLost):
    """The TLS handshake failed in a way that a plain HTTP server causes."""


class PlainAnswer(NotTls):
    """The server answers a TLS handshake in plain HTTP."""


class HungUp(ConnectionLost):
    """A cut where TLS 1.3 has servers cut that want a certificate of ours, and were given none."""


def fault_of(error: Exception, idle_s: float, url: URL | None = None) -> Exception:
    """Sort what went wrong below HTTP; programming errors come back as they are."""
    where = f" ({printable(url.authority)})" if url is not None else ""
    match error:
        case HttpFault():
            return error
        case TimeoutError():
            return ConnectionLost(f"no answer for {idle_s:g} s{where}")
        case Cut():
            return ConnectionLost(f"connection cut{where}")
        case OSError():
            return ConnectionLost(f"{_os_reason(error, 'connection cut')}{where}")
        case BadAnswer() | ValueError():
            return HttpFault(f"answer cannot be read: {printable(str(error), 120)}{where}")
        case _:
            return error


def undialled(error: OSError, url: URL | None) -> HttpFault:
    """Sort why there is no connection; *url* is None for a socket of this machine."""
    if url is None:
        return ConnectionLost(_os_reason(error, "cannot connect"), unsent=True, tries=_DIALS)
    where = f" ({printable(url.authority)})"
    secure = url.scheme == "https"
    match error:
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or str(error)
            return Untrusted(
                f"certificate verify failed: {printable(reason)}{where}",
                authority=url.raw_authority,
            )
        case ssl.SSLError():
            reason = error.reason or str(error)
            if reason in PLAIN_REASONS:
                return PlainAnswer(
                    f"server gave HTTP response to HTTPS client{where}",
                    authority=url.raw_authority,
                    unsent=True,
                    tries=1,
                )
            return NotTls(f"TLS: {printable(reason.lower().replace('_', ' '))}{where}", unsent=True)
        case socket.gaierror():
            return ConnectionLost(f"no such host{where}", unsent=True, tries=_DIALS)
        case _:
            reason = _os_reason(error, "cannot connect")
            hung_up = isinstance(error, ConnectionResetError | BrokenPipeError)
            if secure and (hung_up or url.explicit_port is None):
                return NotTls(f"{reason}{where}", unsent=True)
            return ConnectionLost(f"{reason}{where}", unsent=True, tries=_DIALS)


def _os_reason(error: OSError, otherwise: str) -> str:
    """The system's words for it; asyncio has its own, with addresses in them."""
    if error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()
    return otherwise


def printable(text: str, limit: int = 300) -> str:
    """*text* from a server as one line that cannot upset a terminal."""
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def shown_url(url: str) -> str:
    """Return a URL without credentials and query, which may be secret."""
    scheme, mark, rest = url.partition("#")[0].partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path
