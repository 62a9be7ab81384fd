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
from pybuild.net.http1.proxies import Proxy

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
    """The server's certificate comes from nobody that we trust."""


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


class ProxyLost(ConnectionLost):
    """The proxy on the way cannot be reached, or does not speak as one."""


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
            return _distrust(error, where, url)
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


def _distrust(error: ssl.SSLCertVerificationError, where: str, url: URL) -> HttpFault:
    """Sort certificates that are refused: another authority would mend but some of them."""
    reason = error.verify_message or str(error)
    message = f"certificate verify failed: {printable(reason)}{where}"
    hint = mend_of_certificate(error, url.raw_host or "")
    if hint:
        return HttpFault(message, hints=[hint], authority=url.raw_authority)
    return Untrusted(message, authority=url.raw_authority)


def mend_of_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Return the mend for a certificate that is refused; "" where it is another authority."""
    match getattr(error, "verify_code", 0):
        case 9:
            return "it is not valid yet: set this machine's clock if that is wrong"
        case 10:
            return "have it renewed, or set this machine's clock if that is wrong"
        case 62 | 64:  # another name, another address
            return f"use a name that is in the certificate, or have one made for {host}"
        case _:
            return ""


def proxy_url(proxy: Proxy) -> URL:
    """Return the URL of *proxy*.

    Raises:
        HttpFault: it is none, or of a kind that is not spoken here.
    """
    from yarl import URL

    try:
        url = URL(proxy.url)
    except ValueError:
        url = None
    if url is None or url.scheme not in ("http", "https") or not url.raw_host:
        raise HttpFault(
            f"proxy {printable(shown_url(proxy.url))} of {proxy.variable}: not a URL of http:// or https://",
            hints=[f"set {proxy.variable} to http://HOST:PORT, or unset it"],
        )
    return url


def proxy_fault(error: Exception, proxy: Proxy, url: URL) -> HttpFault:
    """Return the fault of a proxy on the way to *url* that is out of order."""
    hint = _without(proxy, url)
    match error:
        case ssl.SSLCertVerificationError():
            return HttpFault(
                _via(proxy, url, f"certificate verify failed: {error.verify_message or error}"),
                hints=[hint],
            )
        case ssl.SSLError() if error.reason in PLAIN_REASONS:
            text = "it does not speak TLS"
            hint = f"write http:// in {proxy.variable}"
            return HttpFault(_via(proxy, url, text), hints=[hint])
        case ssl.SSLError():
            reason = error.reason or str(error)
            text = f"TLS: {reason.lower().replace('_', ' ')}"
        case socket.gaierror():
            text = "no such host"
        case TimeoutError():
            text = "no answer"
        case BadAnswer():
            text = "its answer cannot be read"
        case OSError():
            text = _os_reason(error, "cannot connect")
        case _:
            text = "connection cut"
    return ProxyLost(_via(proxy, url, text), unsent=True, tries=_DIALS, hints=[hint])


def proxy_refusal(status: int, proxy: Proxy, url: URL) -> HttpFault:
    """Return the fault of a proxy that does not connect us to *url*."""
    hint = _without(proxy, url)
    if status == 407:
        hint = f"write user and password in {proxy.variable}: http://USER:PASSWORD@HOST:PORT"
    return HttpFault(_via(proxy, url, f"answers {status}"), hints=[hint])


def _via(proxy: Proxy, url: URL, text: str) -> str:
    place = shown_url(proxy.url).partition("://")[2].rstrip("/")
    return f"proxy {printable(place)} of {proxy.variable}: {printable(text)} ({printable(url.authority)})"


def _without(proxy: Proxy, url: URL) -> str:
    return f"mend or unset {proxy.variable}, or name {url.raw_host} in no_proxy to go without"


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
