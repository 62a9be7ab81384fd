"""Archives that ADD unpacks: found out by content, never by name [ADD-1, ADD-3]."""

from __future__ import annotations

import os

from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Read = Callable[[], bytes]

BLOCK = 512
PIECE = 1 << 20
_IN = 256 << 10
_ZIP = b"PK\x03\x04"
_COMPRESSED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")


class Damaged(Exception):
    """The compressed stream is broken, or cut off."""


def open_archive(fd: int) -> Read | None:
    """Return a reader of the uncompressed tar that *fd* holds, or None if it holds something else.

    The reader returns pieces of any length and nothing at the end; it raises `Damaged`.

    Raises:
        Fault: environment; a zstd stream, and the Python package for it is missing.
    """
    os.lseek(fd, 0, os.SEEK_SET)
    read = _decompressed(fd)
    head = b""
    try:
        while len(head) < BLOCK:
            piece = read()
            if not piece:
                return None
            head += piece
    except Damaged:
        return None
    if not _is_header(head[:BLOCK]):
        return None
    first: list[bytes] = [head]
    return lambda: first.pop() if first else read()


def is_archive(head: bytes) -> bool:
    """Return whether a context that begins so is an archive [CTX-1].

    Args:
        head: the first 512 bytes, less where there are no more.

    Raises:
        UserError: it is an archive of a kind that contexts cannot be.
    """
    if head.startswith(_ZIP):
        from pybuild.model.errors import UserError

        raise UserError(
            "the build context is a zip archive, which cannot be unpacked",
            hints=("make it a tar archive, plain or compressed with gzip, bzip2, xz or zstd",),
        )
    return head.startswith(_COMPRESSED) or (len(head) >= BLOCK and _is_header(head[:BLOCK]))


def _is_header(block: bytes) -> bool:
    """Return whether a block is a tar header: not of zeros, and its checksum is right."""
    if not any(block):
        return False
    stored = block[148:156].strip(b" \0")
    if not stored or any(c not in b"01234567" for c in stored):
        return False
    total = sum(block) - sum(block[148:156]) + 8 * 32
    signed = total - 256 * sum(1 for c in block[:148] + block[156:] if c > 127)
    return int(stored, 8) in (total, signed)


def _decompressed(fd: int) -> Read:
    def raw() -> bytes:
        return os.read(fd, _IN)

    magic = os.pread(fd, 6, 0)
    if magic.startswith(b"\x1f\x8b\x08"):
        return _members(raw, _gzip)
    if magic.startswith(b"BZh"):
        import bz2

        return _members(raw, bz2.BZ2Decompressor)
    if magic.startswith(b"\xfd7zXZ\0"):
        import lzma

        return _members(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(raw)
    return raw


class _Gzip:
    """zlib's decompressor with the face of bz2's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out: bytes = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        return out

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail


def _gzip() -> _Gzip:
    try:
        from isal import isal_zlib

        return _Gzip(isal_zlib.decompressobj(31))  # pyright: ignore[reportUnknownMemberType]
    except ImportError:
        import zlib

        return _Gzip(zlib.decompressobj(31))


def _members(raw: Read, make: Callable[[], Any]) -> Read:
    """Read a stream of one or more members; zeros may fill up its end, as tape drives did."""
    state: list[Any] = [make()]
    ended = False
    # No more than a header at first: damage behind it must not hide that this is an archive.
    limit = BLOCK

    def read() -> bytes:
        nonlocal ended, limit
        while not ended:
            member = state[0]
            try:
                if member.eof:
                    rest = (member.unused_data or raw()).lstrip(b"\0")
                    while not rest:
                        rest = raw()
                        if not rest:
                            ended = True
                            return b""
                        rest = rest.lstrip(b"\0")
                    member = state[0] = make()
                    out = member.decompress(rest, limit)
                else:
                    data = raw() if member.needs_input else b""
                    if not data and member.needs_input:
                        raise Damaged("it ends early")
                    out = member.decompress(data, limit)
            except Damaged:
                raise
            except Exception as error:  # zlib.error, lzma.LZMAError, OSError, EOFError, ValueError
                raise Damaged(str(error)) from error
            if out:
                limit = PIECE
                return bytes(out)
        return b""

    return read


def _zstd(raw: Read) -> Read:
    try:
        import zstandard
    except ImportError as error:
        raise Fault(
            ENVIRONMENT,
            "the Python package zstandard is not installed: a zstd archive cannot be unpacked",
            ("pip install zstandard",),
        ) from error

    class Feed:
        def read(self, _size: int = -1) -> bytes:
            return raw()

    context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    reader = context.stream_reader(Feed(), read_across_frames=True)  # type: ignore[arg-type]  # pyright: ignore

    sizes = [BLOCK]

    def read() -> bytes:
        try:
            return reader.read(sizes.pop() if sizes else PIECE)
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from error

    return read


def capped(read: Read, path: str, limit: int) -> Read:
    """Return *read* with an end to what it delivers: a bomb must not fill the disk.

    The reader raises `Fault`, environment, when *limit* bytes were not all.
    """
    left = limit

    def next_piece() -> bytes:
        nonlocal left
        piece = read()
        left -= len(piece)
        if left < 0:
            raise Fault(ENVIRONMENT, f'cannot unpack "/{path}": it goes on after {limit} bytes')
        return piece

    return next_piece


def damaged(path: str, reason: str) -> Fault:
    """Return the error for an archive that began well."""
    return Fault(USER, f'cannot unpack "/{path}": {reason}')
