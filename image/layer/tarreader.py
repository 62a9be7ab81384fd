"""Reads tar streams of strangers: ustar, PAX, GNU and old V7 headers [IMG-16].

Only what images use is accepted; everything else (sparse files, unknown types, broken numbers or
checksums) is a fault, because a reader that guesses may see other files than the reader that
checked. Like Go's reader, types without content have none whatever their size field says, a global
extended header changes nothing, and an archive may end without its blocks of zeros.
"""

from __future__ import annotations

from zlib import adler32

from pybuild.image.layer.faults import refuse, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
_ZERO = bytes(BLOCK)
# Extended headers and long names; Go's reader has the same bound.
_MAX_SPECIAL = 1 << 20
_MAX_SIZE = 1 << 62
_MAX_ID = (1 << 32) - 2
_MAX_TIME_NS = (1 << 63) - 1
_XATTR = b"SCHILY.xattr."
# Numbers by the bytes they were read from: modes, owners and times are few in one archive.
_known: dict[bytes, int] = {}
_MOST_KNOWN = 4096


class Member:
    """One entry. Numbers are checked, names are as in the archive."""

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "uid",
        "xattrs",
    )

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[str, bytes]


class TarReader:
    """Iterates over a stream's members; content must be taken before the next one is asked for."""

    def __init__(self, read: Callable[[], bytes | memoryview]) -> None:
        """Args:
        read: returns the next piece of the archive, of any length; nothing at its end. A piece
            may be gone with the next call.
        """

        def counted() -> bytes | memoryview:
            data = read()
            self._given += len(data)
            return data

        self._read = counted
        self._given = 0
        self._buffer = memoryview(b"")
        self._left = 0
        self._pad = 0

    @property
    def position(self) -> int:
        """The offset in the archive: after `next`, that of the member's content."""
        return self._given - len(self._buffer)

    def next(self) -> Member | None:
        """Return the next member, or None after the last one.

        Raises:
            EnvironmentFault: not a tar archive, damaged, or cut off.
        """
        self._skip(self._left + self._pad)
        self._left = self._pad = 0
        pax: dict[bytes, bytes] = {}
        long_name = long_link = None
        while True:
            header = self._block()
            if header is None:
                if pax or long_name is not None or long_link is not None:
                    raise refuse("tar archive ends after an extended header")
                return None
            _checksum(header)
            kind = header[156:157]
            if kind in (b"x", b"g", b"L", b"K"):
                size = _number(header, 124, 136, "size")
                if size > _MAX_SPECIAL:
                    raise refuse(f"tar extended header of {size} bytes is too large")
                data = self._take(size + -size % BLOCK)[:size]
                if kind == b"x":
                    pax.update(_records(data))
                elif kind == b"L":
                    long_name = data.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = data.partition(b"\0")[0]
                continue
            member = _member(header, pax, long_name, long_link)
            self._left = member.size
            self._pad = -member.size % BLOCK
            return member

    def chunks(self) -> Iterator[memoryview]:
        """Yield what is left of the current member's content.

        Raises:
            EnvironmentFault: the archive ends first.
        """
        while self._left:
            if not self._buffer:
                self._fill()
            piece = self._buffer[: self._left]
            self._buffer = self._buffer[len(piece) :]
            self._left -= len(piece)
            yield piece

    def _block(self) -> bytes | None:
        """Return the next header block; None at the end, marked by zeros or not."""
        if not self._buffer:
            self._buffer = memoryview(self._read())
            if not self._buffer:
                return None
        block = self._take(BLOCK)
        if block != _ZERO:
            return block
        if not self._buffer:
            self._buffer = memoryview(self._read())
            if not self._buffer:
                return None
        if self._take(BLOCK) != _ZERO:
            raise refuse("tar archive has a stray block of zeros")
        return None

    def _fill(self) -> None:
        self._buffer = memoryview(self._read())
        if not self._buffer:
            raise refuse("tar archive ends early")

    def _take(self, size: int) -> bytes:
        if len(self._buffer) >= size:
            data = bytes(self._buffer[:size])
            self._buffer = self._buffer[size:]
            return data
        parts: list[bytes] = []
        while size:
            if not self._buffer:
                self._fill()
            piece = bytes(self._buffer[:size])
            self._buffer = self._buffer[len(piece) :]
            size -= len(piece)
            parts.append(piece)
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            if not self._buffer:
                self._fill()
            step = min(size, len(self._buffer))
            self._buffer = self._buffer[step:]
            size -= step


def _checksum(header: bytes) -> None:
    stored = _parsed(header[148:156], "checksum")
    total = _sum(header[:256]) + _sum(header[256:]) - sum(header[148:156]) + 8 * 32
    if stored == total:
        return
    # Some old writers added the bytes up as signed.
    high = sum(1 for byte in header[:148] + header[156:] if byte > 127)
    if stored != total - 256 * high:
        raise refuse("tar header has a wrong checksum: not a tar archive, or damaged")


def _sum(half: bytes) -> int:
    """Add up at most 256 bytes, as the half of Adler-32 that is a plain sum, in C; `sum` is slow."""
    return (adler32(half) & 0xFFFF) - 1


def _number(header: bytes, start: int, end: int, what: str) -> int:
    """Read octal digits or GNU's base-256."""
    field = header[start:end]
    value = _known.get(field)
    if value is None:
        value = _parsed(field, what)
        if len(_known) < _MOST_KNOWN:
            _known[field] = value
    return value


def _parsed(field: bytes, what: str) -> int:
    if field[0] & 0x80:
        negative = field[0] & 0x40
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if negative:
            value -= 1 << (8 * len(field) - 1)
        return value
    digits = field.strip(b" \0").partition(b"\0")[0].rstrip(b" ")
    if not digits:
        return 0
    try:
        # int() would also take signs, underscores and blanks.
        if digits.strip(b"01234567"):
            raise ValueError
        return int(digits, 8)
    except ValueError:
        raise refuse(f"tar header has a bad {what} {shown(field)}") from None


def _records(data: bytes) -> dict[bytes, bytes]:
    """Parse ``<length> key=value\\n`` records; keys without value unset what came before."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 10)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise refuse("tar archive has a malformed PAX record")
        end = at + int(digits)
        record = data[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(data) or end <= space or record[-1:] != b"\n" or not equals or not key:
            raise refuse("tar archive has a malformed PAX record")
        if key.startswith(b"GNU.sparse."):
            raise refuse("tar archive has a sparse file; layers may not have them")
        if b"\0" in value and not key.startswith(_XATTR):
            raise refuse(f"tar archive has a NUL in the PAX record {shown(key)}")
        records[key] = value
        at = end
    return records


def _member(
    header: bytes, pax: dict[bytes, bytes], long_name: bytes | None, long_link: bytes | None
) -> Member:
    member = Member()
    name = header[:100].partition(b"\0")[0]
    # GNU's own format keeps times where ustar has the prefix.
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].partition(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
    name = pax.get(b"path") or (name if long_name is None else long_name)
    link = header[157:257].partition(b"\0")[0]
    link = pax.get(b"linkpath") or (link if long_link is None else long_link)
    kind = header[156:157]
    if kind in (b"\0", b"7"):
        kind = b"5" if kind == b"\0" and name.endswith(b"/") else b"0"
    if kind not in b"0123456" or not kind:
        what = "sparse file" if kind == b"S" else f"entry of unknown type {shown(kind)}"
        raise refuse(f"tar archive has a {what}: {shown(name)}")
    member.name, member.link, member.kind = name, link, kind
    member.mode = _number(header, 100, 108, "mode") & 0o7777
    member.uid = _id(header, 108, pax.get(b"uid"), "uid", name)
    member.gid = _id(header, 116, pax.get(b"gid"), "gid", name)
    size = _integer(pax[b"size"], "size") if pax.get(b"size") else _number(header, 124, 136, "size")
    if not 0 <= size <= _MAX_SIZE:
        raise refuse(f"tar entry {shown(name)} has the size {size}")
    member.size = size if kind == b"0" else 0
    stamp = pax.get(b"mtime")
    time_ns = _time_ns(stamp) if stamp else _number(header, 136, 148, "mtime") * 1_000_000_000
    # Times that no file system holds count as none, as with the peers.
    member.mtime_ns = time_ns if -_MAX_TIME_NS <= time_ns <= _MAX_TIME_NS else 0
    member.major = member.minor = 0
    if kind in b"34":
        member.major = _number(header, 329, 337, "device number")
        member.minor = _number(header, 337, 345, "device number")
        if not (0 <= member.major < 1 << 12 and 0 <= member.minor < 1 << 20):
            raise refuse(f"tar entry {shown(name)} has a bad device number")
    member.xattrs = {
        key[len(_XATTR) :].decode("utf-8", "surrogateescape"): value
        for key, value in pax.items()
        if key.startswith(_XATTR)
    }
    return member


def _id(header: bytes, start: int, text: bytes | None, what: str, name: bytes) -> int:
    value = _integer(text, what) if text else _number(header, start, start + 8, what)
    if not 0 <= value <= _MAX_ID:
        raise refuse(f"tar entry {shown(name)} has the {what} {value}")
    return value


def _integer(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 20:
        raise refuse(f"tar archive has a bad PAX {what} {shown(text)}")
    return int(text)


def _time_ns(text: bytes) -> int:
    """Read PAX's decimal seconds; digits beyond nanoseconds are cut."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.lstrip(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 20 or (fraction and not fraction.isdigit()):
        raise refuse(f"tar archive has a bad PAX mtime {shown(text)}")
    return sign * (int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0"))
