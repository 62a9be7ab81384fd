"""The status of a call's end: code, message and details, and their form in the trailers."""

from __future__ import annotations

import base64
import binascii
import re
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from pybuild.net.http2.errors import ErrorCode, name_of

_UNSAFE = re.compile(rb"[^ -$&-~]")
_MOST_MESSAGE = 64 << 10
_OVERHEAD = 512  # of the other fields, and of the names of ours, each counted with 32 bytes


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcError(Exception):
    """A call ended, or is to end, with a status other than OK.

    Attributes:
        details: a serialized ``google.rpc.Status``, or nothing.
        brief: a shorter one for peers that take no more.
    """

    def __init__(self, code: Code, message: str, details: bytes = b"", brief: bytes = b"") -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details
        self.brief = brief

    def __str__(self) -> str:
        return f"{self.code.name.lower()}: {self.message}"


_RESETS = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


def of_reset(code: int, message: str = "") -> RpcError:
    """Return the error that a stream's end by RST_STREAM means."""
    known = ErrorCode(code) if code in ErrorCode.__members__.values() else ErrorCode.INTERNAL_ERROR
    why = f" ({message})" if message else ""
    return RpcError(_RESETS.get(known, Code.INTERNAL), f"stream ended: {name_of(code)}{why}")


def of_http(status: int) -> RpcError:
    """Return the error that a response means that does not come from gRPC."""
    return RpcError(_HTTP.get(status, Code.UNKNOWN), f"the server answered with HTTP {status}")


def to_fields(error: RpcError | None, room: int) -> list[tuple[bytes, bytes]]:
    """Return the fields that tell how a call ended; None means well.

    Args:
        room: how many bytes the peer takes; a message too long for that is cut, and details for
            which nothing is left are not sent, as a peer resets a stream with too long headers.
    """
    if error is None:
        return [(b"grpc-status", b"0")]
    fields = [(b"grpc-status", b"%d" % error.code)]
    room = max(room - _OVERHEAD, 0)
    message = quote(error.message, min(room // 2, _MOST_MESSAGE))
    if message:
        fields.append((b"grpc-message", message))
        room -= len(message)
    for details in (to_base64(error.details), to_base64(error.brief)):
        if details and len(details) <= room:
            fields.append((b"grpc-status-details-bin", details))
            break
    return fields


def from_fields(fields: list[tuple[bytes, bytes]]) -> RpcError | None:
    """Return the error that a call ended with, None for success.

    Raises:
        LookupError: *fields* have no status.
    """
    values = dict(fields)
    status = values.get(b"grpc-status")
    if status is None:
        raise LookupError
    if status == b"0":
        return None
    code = Code.UNKNOWN
    if status.isdigit() and len(status) <= 2 and int(status) in Code.__members__.values():
        code = Code(int(status))
    message = unquote_to_bytes(values.get(b"grpc-message", b"")).decode(errors="replace")
    try:
        details = from_base64(values.get(b"grpc-status-details-bin", b""))
    except ValueError:
        details = b""
    return RpcError(code, message, details)


def quote(message: str, most: int = _MOST_MESSAGE) -> bytes:
    """Return *message* percent-encoded, cut where it would be longer than *most* bytes."""
    raw = message.encode(errors="replace")[:most]
    quoted = _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw)
    # A space at an end would not survive as a header value.
    if quoted[:1] == b" ":
        quoted = b"%20" + quoted[1:]
    if quoted[-1:] == b" ":
        quoted = quoted[:-1] + b"%20"
    if len(quoted) > most:
        quoted = quoted[:most]
        cut = quoted.rfind(b"%", max(most - 2, 0))
        quoted = (quoted if cut < 0 else quoted[:cut]).rstrip(b" ")
    return quoted


def to_base64(data: bytes) -> bytes:
    """Return base64 without padding."""
    return base64.b64encode(data).rstrip(b"=")


def from_base64(text: bytes) -> bytes:
    """Read base64, padded or not.

    Raises:
        ValueError: it is something else.
    """
    text = text.rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r} is not base64") from error
