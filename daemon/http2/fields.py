"""Header fields: encoding them (HPACK, RFC 7541), decoding them, and the rules of RFC 9113 section 8.

Our encoder keeps no state: it never uses the dynamic table, so a field's encoding is a constant and
is remembered. That costs some bytes and saves most of the time of a small call. Decoding is the
library's; a block that neither changed the table nor found it changed decodes as it did before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from hpack import Decoder
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from pybuild.daemon.http2.errors import ConnectionFault, ErrorCode
from pybuild.daemon.http2.events import Fields

_STATIC = {pair: index for index, pair in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_STATIC_NAMES = {
    name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))
}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[^\x00\r\n \t](?:[^\x00\r\n]*[^\x00\r\n \t])?)?")
_CONNECTION_ONLY = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_REQUEST = frozenset((b":method", b":scheme", b":authority", b":path"))
_REMEMBERED = 64


class Malformed(Exception):
    """The message breaks section 8; the stream is to be reset with PROTOCOL_ERROR."""


def _integer(value: int, bits: int, first: int) -> bytes:
    top = (1 << bits) - 1
    if value < top:
        return bytes((first | value,))
    out = bytearray((first | top,))
    value -= top
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@lru_cache(maxsize=512)
def _short(name: bytes, value: bytes) -> bytes:
    index = _STATIC.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    named = _STATIC_NAMES.get(name)
    if named is not None:
        start = _integer(named, 4, 0)
    else:
        start = b"\x00" + _integer(len(name), 7, 0) + name
    return start + _integer(len(value), 7, 0) + value


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a header block that leaves no trace in the peer's table."""
    encode_long = _short.__wrapped__
    return b"".join(
        _short(name, value) if len(value) < 128 else encode_long(name, value)
        for name, value in fields
    )


class _Table(HeaderTable):
    """The peer's table, which forgets the decoded blocks when it changes."""

    def __init__(self, remembered: dict[bytes, Fields]) -> None:
        super().__init__()
        self._remembered = remembered
        self.changed = False

    def add(self, name: bytes, value: bytes) -> None:
        self._remembered.clear()
        self.changed = True
        super().add(name, value)

    def _shrink(self) -> None:
        self._remembered.clear()
        self.changed = True
        super()._shrink()


class FieldDecoder:
    """Decodes the header blocks of one direction of a connection, which depend on each other."""

    def __init__(self, header_bytes: int) -> None:
        self._remembered: dict[bytes, Fields] = {}
        self._decoder = Decoder(max_header_list_size=header_bytes)
        self._table = _Table(self._remembered)
        self._decoder.header_table = self._table

    def decode(self, block: bytes) -> Fields:
        """Return the fields.

        Raises:
            ConnectionFault: the block cannot be decoded, or the list is too long.
        """
        known = self._remembered.get(block)
        if known is not None:
            return known
        self._table.changed = False
        try:
            fields: Fields = [
                (name, value)
                for name, value in self._decoder.decode(block, raw=True)
                if isinstance(name, bytes) and isinstance(value, bytes)
            ]
        except OversizedHeaderListError as error:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"header block: {error}") from error
        except HPACKError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block: {error}") from error
        if not self._table.changed and block[:1] >= b"\x40":
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[block] = fields
        return fields


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
