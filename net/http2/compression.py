"""Header compression (HPACK, RFC 7541), with the static table and the Huffman code of a library.

Our encoder keeps no state: it never uses the dynamic table, so a field's encoding is a constant and
is remembered. That costs some bytes and saves most of the time of a small call. The decoder is ours
as well: it bounds every number before it computes with it, and what a block means is remembered as
long as the table stays as it is, which makes equal headers of later calls cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from pybuild.net.http2.errors import ConnectionFault, ErrorCode
from pybuild.net.http2.events import Fields

DEFAULT_TABLE_BYTES = 4096
_STATIC = tuple(HeaderTable.STATIC_TABLE)
_PAIRS = {pair: index for index, pair in reversed(list(enumerate(_STATIC, 1)))}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}
_REMEMBERED, _REMEMBERED_BYTES = 64, 512
_MOST_SIZE_UPDATES = 2  # section 4.2: the smallest since, and the last


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


def _field(name: bytes, value: bytes) -> bytes:
    index = _PAIRS.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    named = _NAMES.get(name)
    if named is not None:
        start = _integer(named, 4, 0)
    else:
        start = b"\x00" + _integer(len(name), 7, 0) + name
    return start + _integer(len(value), 7, 0) + value


_remembered_field = lru_cache(maxsize=512)(_field)


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a header block that leaves no trace in the peer's table."""
    return b"".join(
        [
            _remembered_field(name, value) if len(value) < 128 else _field(name, value)
            for name, value in fields
        ]
    )


class FieldDecoder:
    """Decodes the header blocks of one direction of a connection, which depend on each other."""

    def __init__(self, header_bytes: int) -> None:
        self._most = header_bytes
        self._table: deque[tuple[bytes, bytes]] = deque()
        self._table_bytes = 0
        self._table_most = DEFAULT_TABLE_BYTES
        self._changed = False
        self._remembered: dict[bytes, Fields] = {}

    def decode(self, block: bytes) -> Fields:
        """Return the fields, which the caller does not change.

        Raises:
            ConnectionFault: the block cannot be decoded, or the list is too long.
        """
        known = self._remembered.get(block)
        if known is not None:
            return known
        self._changed = False
        try:
            fields = self._decode(block)
        except (IndexError, HPACKError) as error:
            raise _fault("is cut short or no valid code") from error
        if self._changed:
            self._remembered.clear()
        elif len(block) <= _REMEMBERED_BYTES:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[block] = fields
        return fields

    def _decode(self, block: bytes) -> Fields:
        fields: Fields = []
        at = size = updates = 0
        end = len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 0x7F)
                pair = self._pair(index)
            elif first & 0x60 == 0x20:
                most, at = _read_integer(block, at, 0x1F)
                updates += 1
                if fields or updates > _MOST_SIZE_UPDATES or most > DEFAULT_TABLE_BYTES:
                    raise _fault(f"sets the table to {most} bytes out of place")
                self._table_most = most
                self._evict()
                continue
            else:
                kept = first & 0x40
                index, at = _read_integer(block, at, 0x3F if kept else 0x0F)
                if index:
                    name = self._pair(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                pair = (name, value)
                if kept:
                    self._table.appendleft(pair)
                    self._table_bytes += len(name) + len(value) + 32
                    self._evict()
            fields.append(pair)
            size += len(pair[0]) + len(pair[1]) + 32
            if size > self._most:
                raise ConnectionFault(
                    ErrorCode.ENHANCE_YOUR_CALM, f"header list of more than {self._most} bytes"
                )
        return fields

    def _pair(self, index: int) -> tuple[bytes, bytes]:
        if not index:
            raise _fault("has index 0")
        if index <= len(_STATIC):
            return _STATIC[index - 1]
        return self._table[index - len(_STATIC) - 1]

    def _evict(self) -> None:
        self._changed = True
        while self._table_bytes > self._table_most:
            name, value = self._table.pop()
            self._table_bytes -= len(name) + len(value) + 32


def _read_integer(block: bytes, at: int, top: int) -> tuple[int, int]:
    value = block[at] & top
    at += 1
    if value < top:
        return value, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _fault("has a number of more than 28 bits")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    huffman = block[at] & 0x80
    size, at = _read_integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise _fault("is cut short")
    text = block[at:end]
    return (decode_huffman(text) if huffman else text), end


def _fault(what: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, f"header block {what}")
