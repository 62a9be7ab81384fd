"""File modes as Go writes them into an entry, and as the kernel knows them."""

from __future__ import annotations

import stat

DIRECTORY = 1 << 31
SYMLINK = 1 << 27
DEVICE = 1 << 26
FIFO = 1 << 25
SOCKET = 1 << 24
SETUID = 1 << 23
SETGID = 1 << 22
CHARACTER = 1 << 21
STICKY = 1 << 20
IRREGULAR = 1 << 19
TYPE = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | CHARACTER | IRREGULAR

_KINDS = {
    0: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    DEVICE: stat.S_IFBLK,
    DEVICE | CHARACTER: stat.S_IFCHR,
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
}
_GO_KINDS = {kind: bits for bits, kind in _KINDS.items()}


def to_kernel(mode: int) -> int:
    """Return the ``st_mode`` for a mode of Go.

    Raises:
        ValueError: its type bits mean nothing.
    """
    kind = _KINDS.get(mode & TYPE)
    if kind is None:
        raise ValueError(f"mode {mode:#o} is of no known file type")
    bits = kind | mode & 0o777
    if mode & (SETUID | SETGID | STICKY):
        bits |= stat.S_ISUID if mode & SETUID else 0
        bits |= stat.S_ISGID if mode & SETGID else 0
        bits |= stat.S_ISVTX if mode & STICKY else 0
    return bits


def to_go(mode: int) -> int:
    """Return Go's mode for an ``st_mode``."""
    bits = _GO_KINDS[stat.S_IFMT(mode)] | mode & 0o777
    if mode & 0o7000:
        bits |= SETUID if mode & stat.S_ISUID else 0
        bits |= SETGID if mode & stat.S_ISGID else 0
        bits |= STICKY if mode & stat.S_ISVTX else 0
    return bits
