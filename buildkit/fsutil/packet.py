"""``fsutil.types.Packet`` by hand: a transfer has one for each file and each piece of data.

Generic messages cost several times as much, and refuse names that are not UTF-8, which files may
have. Names are bytes here. `tests/daemon` holds this against the classes of `pybuild.buildkit.pb`.
"""

from __future__ import annotations

from dataclasses import field

from pybuild.model.dataclass import dataclass

STAT, REQ, DATA, FIN, ERR = range(5)
END_OF_LIST = b""
FIN_PACKET = b"\x08\x03"

_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_UINT64 = (1 << 64) - 1


class MalformedPacket(ValueError):
    """Bytes that are no packet."""


@dataclass(slots=True)
class Stat:
    """One entry of a tree.

    Attributes:
        path: relative, clean, ``/`` between names.
        mode: Go's, see `gomode`.
        mtime_ns: since the epoch; may be negative.
        linkname: target of a symbolic link, or the earlier path that a hard link repeats.
    """

    path: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])


@dataclass(slots=True)
class Packet:
    """One message; *stat* is None in the STAT that ends the list."""

    type: int
    id: int
    data: memoryview
    stat: Stat | None


def decode(message: bytes) -> Packet:
    """Read a packet; its data are a view of *message*.

    Raises:
        MalformedPacket: it is none.
    """
    view = memoryview(message)
    type = id = 0
    data = view[:0]
    stat: Stat | None = None
    at, end = 0, len(message)
    try:
        while at < end:
            tag = message[at]
            at += 1
            if tag == 0x08 or tag == 0x18:
                value = message[at]
                at += 1
                if value > 0x7F:
                    value, at = _varint(message, at - 1)
                if tag == 0x08:
                    type = value
                else:
                    id = value & 0xFFFFFFFF
            elif tag == 0x22 or tag == 0x12:
                size, at = _varint(message, at)
                if at + size > end:
                    raise MalformedPacket("a packet that is cut short")
                if tag == 0x22:
                    data = view[at : at + size]
                else:
                    stat = _stat(message, at, at + size)
                at += size
            else:
                at = _skip(message, at - 1, end)
    except IndexError:
        raise MalformedPacket("a packet that is cut short") from None
    return Packet(type, id, data, stat)


def plain_data(message: bytes) -> tuple[int, int] | None:
    """Return the file's number and where its data begin, if this is DATA as everybody writes it.

    Most packets are; what else there may be `decode` knows.
    """
    end = len(message)
    id = 0
    at = 2
    try:
        if message[:2] != b"\x08\x02":
            return None
        if at < end and message[at] == 0x18:
            id, at = _varint(message, at + 1)
        if at < end:
            if message[at] != 0x22:
                return None
            size, at = _varint(message, at + 1)
            if not size or at + size != end:
                return None
    except (IndexError, MalformedPacket):
        return None
    return id & 0xFFFFFFFF, at


def _stat(message: bytes, at: int, end: int) -> Stat:
    numbers = [0] * 10
    path = linkname = b""
    xattrs: dict[bytes, bytes] = {}
    while at < end:
        tag = message[at]
        number = tag >> 3
        if tag & 7 == _VARINT and number in (2, 3, 4, 5, 6, 8, 9):
            numbers[number], at = _varint(message, at + 1)
        elif tag in (0x0A, 0x3A, 0x52):
            size, at = _varint(message, at + 1)
            if at + size > end:
                raise MalformedPacket("an entry that is cut short")
            value = message[at : at + size]
            at += size
            if tag == 0x0A:
                path = value
            elif tag == 0x3A:
                linkname = value
            else:
                name, content = _attribute(value)
                xattrs[name] = content
        else:
            at = _skip(message, at, end)
    return Stat(
        path,
        numbers[2] & 0xFFFFFFFF,
        numbers[3] & 0xFFFFFFFF,
        numbers[4] & 0xFFFFFFFF,
        _signed(numbers[5]),
        _signed(numbers[6]),
        linkname,
        _signed(numbers[8]),
        _signed(numbers[9]),
        xattrs,
    )


def _attribute(entry: bytes) -> tuple[bytes, bytes]:
    name = value = b""
    at, end = 0, len(entry)
    while at < end:
        tag = entry[at]
        if tag not in (0x0A, 0x12):
            at = _skip(entry, at, end)
            continue
        size, at = _varint(entry, at + 1)
        if at + size > end:
            raise MalformedPacket("an attribute that is cut short")
        if tag == 0x0A:
            name = entry[at : at + size]
        else:
            value = entry[at : at + size]
        at += size
    return name, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = message[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _UINT64, at
        shift += 7
        if shift > 63:
            raise MalformedPacket("a number of more than 64 bits")


def _skip(message: bytes, at: int, end: int) -> int:
    """Return where the field after the unknown one at *at* begins."""
    tag, at = _varint(message, at)
    kind = tag & 7
    if tag >> 3 == 0 or tag >> 3 > 0x1FFFFFFF:
        raise MalformedPacket("a field without a number")
    if kind == _VARINT:
        _, at = _varint(message, at)
    elif kind == _BYTES:
        size, at = _varint(message, at)
        at += size
    elif kind in (_I64, _I32):
        at += 8 if kind == _I64 else 4
    else:
        raise MalformedPacket(f"a field of wire type {kind}")
    if at > end:
        raise MalformedPacket("a field that is cut short")
    return at


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


# --- writing --------------------------------------------------------------------------------------


def encode_stat(stat: Stat) -> bytes:
    """Return the packet for one entry of the list."""
    return _text(0x12, stat_bytes(stat))


def stat_bytes(stat: Stat) -> bytes:
    """Return one entry as the protocol has it."""
    parts = [_text(0x0A, stat.path)]
    for number, value in (
        (2, stat.mode),
        (3, stat.uid),
        (4, stat.gid),
        (5, stat.size),
        (6, stat.mtime_ns),
    ):
        if value:
            parts.append(bytes((number << 3,)) + uvarint(value & _UINT64))
    if stat.linkname:
        parts.append(_text(0x3A, stat.linkname))
    for number, value in ((8, stat.devmajor), (9, stat.devminor)):
        if value:
            parts.append(bytes((number << 3,)) + uvarint(value & _UINT64))
    for name in sorted(stat.xattrs):
        parts.append(_text(0x52, _text(0x0A, name) + _text(0x12, stat.xattrs[name])))
    return b"".join(parts)


def encode_request(id: int) -> bytes:
    return b"\x08\x01\x18" + uvarint(id) if id else b"\x08\x01"


def encode_data(id: int, data: bytes | memoryview) -> bytes:
    """Return a piece of file *id*; an empty one ends it."""
    head = b"\x08\x02\x18" + uvarint(id) if id else b"\x08\x02"
    if not data:
        return head
    return b"".join((head, b"\x22", uvarint(len(data)), data))


def encode_error(text: str) -> bytes:
    return b"\x08\x04" + _text(0x22, text.encode("utf-8", "replace"))


def uvarint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(tag: int, value: bytes) -> bytes:
    return b"".join((bytes((tag,)), uvarint(len(value)), value))
