"""Tar headers as bytes: ustar, and PAX records only for what ustar cannot say [IMG-16, REP-4].

Names go out as the raw bytes they have on disk, also where they are not ASCII: every reader takes
them so, and one name then has one encoding. Times are whole seconds, see `layertar`.
"""

from __future__ import annotations

from zlib import adler32

BLOCK = 512
REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO = (b"%d" % n for n in range(7))

_ZEROS = bytes(BLOCK)
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_XATTR = b"SCHILY.xattr."
# The name of the extended header's own entry. Readers that know PAX never show it.
_PAX_NAME = b"././@PaxHeader"


def entry(
    name: bytes,
    kind: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """Return the header block of an entry, its extended header first where one is needed.

    Args:
        name: relative, without ``./``; directories end in ``/``.
        mode: permission bits with setuid, setgid and sticky.
        size: of the content that follows, in bytes; `padding` comes after it.
        mtime: seconds since the epoch.
    """
    records: dict[bytes, bytes] = {}
    prefix = b""
    short = name
    if len(name) > 100:
        prefix, short = _split(name)
        if not short:
            records[b"path"] = name
            prefix, short = b"", name[:100]
    if len(link) > 100:
        records[b"linkpath"] = link
        link = link[:100]
    if uid > _MAX_ID:
        records[b"uid"] = b"%d" % uid
        uid = 0
    if gid > _MAX_ID:
        records[b"gid"] = b"%d" % gid
        gid = 0
    if size > _MAX_SIZE:
        records[b"size"] = b"%d" % size
        size = 0
    if not 0 <= mtime <= _MAX_SIZE:
        records[b"mtime"] = b"%d" % mtime
        mtime = 0
    if xattrs:
        for key, value in xattrs.items():
            records[_XATTR + key.encode("utf-8", "surrogateescape")] = value
    head = _ustar(short, kind, mode, uid, gid, size, mtime, link, major, minor, prefix)
    return _extended(records) + head if records else head


def padding(size: int) -> bytes:
    """Return the zeros that bring *size* bytes of content to the next block."""
    return _ZEROS[: -size % BLOCK]


END = bytes(2 * BLOCK)
"""The end of an archive: two blocks of zeros, without filling up a record, as Go writes it."""


def _ustar(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes,
) -> bytes:
    front = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime,
    )
    known = None if link or major or minor or prefix else _PLAIN_BACKS.get(kind)
    back, rest = known or _back(kind, link, major, minor, prefix)
    return b"%s%06o\0 %s" % (front, _sum(front) + rest + 8 * 32, back)


def _back(kind: bytes, link: bytes, major: int, minor: int, prefix: bytes) -> tuple[bytes, int]:
    """Return the part of a header behind the checksum and a blank, and the sum of its bytes."""
    back = b"%s%sustar\x0000%s%07o\0%07o\0%s" % (
        kind,
        link.ljust(100, b"\0"),
        _ZEROS[:64],
        major,
        minor,
        prefix.ljust(167, b"\0"),
    )
    return back, _sum(back[:256]) + _sum(back[256:])


def _sum(data: bytes) -> int:
    """Return the sum of at most 256 bytes: of so few, Adler's checksum has it, at once."""
    return (adler32(data) & 0xFFFF) - 1


_KINDS = (REGULAR, HARDLINK, SYMLINK, CHAR, BLOCKDEV, DIRECTORY, FIFO)
_PLAIN_BACKS = {kind: _back(kind, b"", 0, 0, b"") for kind in _KINDS}


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Cut a long name at a slash into at most 155 and 100 bytes; two empty parts: impossible."""
    if len(name) > 256:
        return b"", b""
    # The slash that ends a directory's name may not be the cut.
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100:
        return b"", b""
    return name[:cut], name[cut + 1 :]


def _extended(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    head = _ustar(_PAX_NAME, b"x", 0o644, 0, 0, len(body), 0, b"", 0, 0, b"")
    return head + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """Return ``<length> key=value\\n``, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length, before = rest, 0
    while length != before:
        length, before = rest + len(str(length)), length
    return b"%d %s=%s\n" % (length, key, value)
