"""Why there is no connection, sorted: what is worth another try, and what plain HTTP may mend."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest
from yarl import URL

from pybuild.net.http1.answer import BadAnswer
from pybuild.net.http1.connection import Cut
from pybuild.net.http1.faults import (
    ConnectionLost,
    HttpFault,
    NotTls,
    Untrusted,
    fault_of,
    printable,
    proxy_fault,
    proxy_url,
    undialled,
)
from pybuild.net.http1.proxies import Proxy


def os_error(code: int) -> OSError:
    return OSError(code, "words of the event loop")


@pytest.mark.parametrize(
    ("error", "url", "kind", "message"),
    [
        # A server that hangs up in the middle of a greeting may not speak TLS at all.
        (ConnectionResetError(errno.ECONNRESET, ""), "https://r.example:5000", NotTls, "connection reset by peer"),
        (BrokenPipeError(errno.EPIPE, ""), "https://r.example:5000", NotTls, "broken pipe"),
        # Nobody at 443: there may be somebody at 80.
        (os_error(errno.ECONNREFUSED), "https://r.example", NotTls, "connection refused"),
        # Nobody at a port that was named: nobody there speaks plain HTTP either.
        (os_error(errno.ECONNREFUSED), "https://r.example:5000", ConnectionLost, "connection refused"),
        (ConnectionResetError(errno.ECONNRESET, ""), "http://r.example", ConnectionLost, "connection reset by peer"),
        (os_error(errno.ECONNREFUSED), "http://r.example", ConnectionLost, "connection refused"),
        (OSError("no number"), "http://r.example", ConnectionLost, "cannot connect"),
        (socket.gaierror(socket.EAI_NONAME, "x"), "https://r.example", ConnectionLost, "no such host"),
    ],
)  # fmt: skip
def test_why_nobody_answers_a_dial(
    error: OSError, url: str, kind: type[ConnectionLost], message: str
) -> None:
    fault = undialled(error, URL(url))
    assert type(fault) is kind
    assert fault.message == f"{message} ({URL(url).authority})"
    assert isinstance(fault, ConnectionLost) and fault.unsent
    assert fault.tries == (3 if kind is ConnectionLost else 1000)


def test_a_certificate_that_is_not_trusted_is_not_tried_again() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    fault = undialled(error, URL("https://r.example"))
    assert not isinstance(fault, ConnectionLost)
    assert fault.message == "certificate verify failed: self-signed certificate (r.example:443)"


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (10, "have it renewed, or set this machine's clock if that is wrong"),
        (9, "it is not valid yet: set this machine's clock if that is wrong"),
        (62, "use a name that is in the certificate, or have one made for r.example"),
        (64, "use a name that is in the certificate, or have one made for r.example"),
    ],
)
def test_what_another_authority_would_not_mend_has_a_way_out_of_its_own(
    code: int, hint: str
) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message, error.verify_code = "certificate has expired", code
    fault = undialled(error, URL("https://r.example"))
    assert not isinstance(fault, Untrusted)
    assert fault.message == "certificate verify failed: certificate has expired (r.example:443)"
    assert fault.hints == (hint,)


PROXY = Proxy("http://me:secret@p.example:3128/", "https_proxy")
_WITHOUT = "mend or unset https_proxy, or name r.example in no_proxy to go without"


def tls_error(error: ssl.SSLError, reason: str) -> ssl.SSLError:
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "text", "hint"),
    [
        (os_error(errno.ECONNREFUSED), "connection refused", _WITHOUT),
        (socket.gaierror(socket.EAI_NONAME, "x"), "no such host", _WITHOUT),
        (TimeoutError(), "no answer", _WITHOUT),
        (Cut(), "connection cut", _WITHOUT),
        (BadAnswer("x"), "its answer cannot be read", _WITHOUT),
        (tls_error(ssl.SSLError(1, "x"), "BAD_X"), "TLS: bad x", _WITHOUT),
        (
            tls_error(ssl.SSLError(1, "x"), "WRONG_VERSION_NUMBER"),
            "it does not speak TLS",
            "write http:// in https_proxy",
        ),
    ],
)
def test_a_proxy_that_is_out_of_order_is_named_with_its_variable(
    error: Exception, text: str, hint: str
) -> None:
    fault = proxy_fault(error, PROXY, URL("https://r.example"))
    assert fault.message == f"proxy p.example:3128 of https_proxy: {text} (r.example:443)"
    assert fault.hints == (hint,)
    assert not isinstance(fault, NotTls)  # plain HTTP would not get there either


@pytest.mark.parametrize("url", ["socks5://h:1", "http://", "http://[", "https://h:x"])
def test_proxies_of_other_kinds_are_refused_by_name(url: str) -> None:
    with pytest.raises(HttpFault) as caught:
        proxy_url(Proxy(url, "HTTPS_PROXY"))
    assert "of HTTPS_PROXY: not a URL of http:// or https://" in caught.value.message
    assert caught.value.hints == ("set HTTPS_PROXY to http://HOST:PORT, or unset it",)


@pytest.mark.parametrize("authority", ["r.example", "r.example:5000", "r.example:443"])
def test_a_server_has_the_name_that_a_configuration_has_for_it(authority: str) -> None:
    """A hint that names ``r.example:443`` for ``r.example`` would change nothing."""
    url = URL(f"https://{authority}/v2/", encoded=True)
    greeting = ssl.SSLError(1, "x")
    greeting.reason = "WRONG_VERSION_NUMBER"
    untrusted = ssl.SSLCertVerificationError(1, "x")
    untrusted.verify_message = "self-signed certificate"
    for error in (untrusted, greeting):
        assert undialled(error, url).authority == authority


def test_faults_on_the_way_are_worth_another_try() -> None:
    fault = fault_of(os_error(errno.EHOSTUNREACH), 5.0)
    assert isinstance(fault, ConnectionLost) and not fault.unsent
    assert fault.message == "no route to host"
    silent = fault_of(TimeoutError(), 0.5, URL("http://r.example"))
    assert str(silent) == "no answer for 0.5 s (r.example:80)"
    bug = KeyError("x")
    assert fault_of(bug, 1.0) is bug


def test_texts_of_servers_are_one_line_of_bounded_length() -> None:
    assert printable(" a\nb\x1b[31m ") == "a b [31m"
    assert printable("x" * 300) == "x" * 300
    assert printable("x" * 301) == "x" * 299 + "…"
