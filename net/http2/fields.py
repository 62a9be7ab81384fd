"""The rules for header fields of requests, responses and trailers (RFC 9113 section 8)."""

from __future__ import annotations

import re

from pybuild.net.http2.events import Fields

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
# Section 8.2.1 forbids spaces around a value, too; but Go's servers send such a grpc-message.
_VALUE = re.compile(rb"[^\x00\r\n]*")
_CONNECTION_ONLY = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_REQUEST = frozenset((b":method", b":scheme", b":authority", b":path"))


class Malformed(Exception):
    """The message breaks section 8; the stream is to be reset with PROTOCOL_ERROR."""


def check_request(fields: Fields) -> None:
    """Hold a request to section 8.3.1.

    Raises:
        Malformed: with what is wrong.
    """
    pseudo = _check(fields, _REQUEST)
    if pseudo.get(b":method") == b"CONNECT":
        raise Malformed("CONNECT is not served")
    for name in (b":method", b":scheme", b":path"):
        if not pseudo.get(name):
            raise Malformed(f"request without {name.decode()}")


def check_response(fields: Fields) -> int:
    """Hold a response to section 8.3.2, and return its status.

    Raises:
        Malformed: with what is wrong.
    """
    status = _check(fields, frozenset((b":status",))).get(b":status", b"")
    if len(status) != 3 or not status.isdigit() or status[0] == 0x30:
        raise Malformed(f"response with status {status!r}")
    return int(status)


def check_trailers(fields: Fields) -> None:
    """Hold trailers to section 8.1: no pseudo-header fields.

    Raises:
        Malformed: with what is wrong.
    """
    _check(fields, frozenset())


def content_length(fields: Fields) -> int | None:
    """Return the length of the body, if the message tells one.

    Raises:
        Malformed: it is not a number, or there are several.
    """
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return None
    value = lengths.pop()
    if lengths or not value.isdigit() or len(value) > 18:
        raise Malformed(f"content-length {value!r}")
    return int(value)


def _check(fields: Fields, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    pseudo: dict[bytes, bytes] = {}
    regular = False
    for name, value in fields:
        if name[:1] == b":":
            if regular or name in pseudo or name not in allowed:
                raise Malformed(f"pseudo-header field {name!r} in the wrong place")
            pseudo[name] = value
        else:
            regular = True
            if _NAME.fullmatch(name) is None:
                raise Malformed(f"header name {name!r}")
            if name in _CONNECTION_ONLY or (name == b"te" and value != b"trailers"):
                raise Malformed(f"header field {name!r} belongs to HTTP/1")
        if _VALUE.fullmatch(value) is None:
            raise Malformed(f"value of header field {name!r}")
    return pseudo
