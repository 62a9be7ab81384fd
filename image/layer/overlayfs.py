"""The form of deletions in an upper directory of overlayfs, and the attributes that are its own.

Source: the kernel's overlayfs documentation; `measured-facts`, section 4.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from pybuild.image.layer.ownership import NODE
from pybuild.image.layer.ownership import PREFIX as RESERVED

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
CAPABILITY = "security.capability"
_NOTED = b"c:0:0"
_OPAQUE = RESERVED + "opaque"
MAGIC = 0x794C7630
_libc = ctypes.CDLL(None, use_errno=True)


def namespace(userxattr: bool) -> str:
    """Return the prefix of overlayfs' own attributes: ``trusted.`` or, in user namespaces, ``user.``"""
    return "user.overlay." if userxattr else "trusted.overlay."


def is_whiteout(
    status: os.stat_result, fd: int | None = None, name: str | bytes = "", *, noted: bool
) -> bool:
    """Return whether a directory entry hides what is below: a character device 0:0 [IMG-13].

    Where that cannot be made, see `make_whiteout`, it is an empty file that nobody may open, with a
    note.

    Args:
        fd: the directory in which *name* is; None: *name* is a path.
        noted: the answer of `is_overlay` for the delta; on other file systems such a note is a step's own.
    """
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev == 0
    if not noted or status.st_size or status.st_mode != stat.S_IFREG:
        return False
    path = name if fd is None else f"/proc/self/fd/{fd}/{os.fsdecode(name)}"
    try:
        return os.getxattr(path, NODE, follow_symlinks=False) == _NOTED
    except OSError:
        return False


def make_whiteout(fd: int, name: bytes) -> None:
    """Hide *name*, which the directory *fd* does not have, in the layers below.

    Overlayfs, where it is the store's file system, keeps that device for itself: a note does it.

    Raises:
        FileExistsError: something is there.
    """
    try:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)
        return
    except PermissionError:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0, dir_fd=fd)
    try:
        os.fchmod(made, 0)
        os.setxattr(made, NODE, _NOTED)
    finally:
        os.close(made)


def is_opaque(path: str | bytes | int, own: str, *, noted: bool) -> bool:
    """Return whether a directory hides what the layers below have in its place; *noted* as above."""
    for name in (own + "opaque", _OPAQUE) if noted else (own + "opaque",):
        try:
            if isinstance(path, int):
                return os.getxattr(path, name) == b"y"
            return os.getxattr(path, name, follow_symlinks=False) == b"y"
        except OSError:
            continue
    return False


def is_opaque_name(name: str, own: str) -> bool:
    """Whether an attribute of that name says that a directory is opaque, and nothing else."""
    return name in (own + "opaque", _OPAQUE)


def set_opaque(fd: int, own: str) -> None:
    """Let a directory hide what the layers below have in its place.

    Before Linux 6.7 overlayfs, where it is the store's file system, does not let its attributes be
    set: a note does it.
    """
    try:
        os.setxattr(fd, own + "opaque", b"y")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        os.setxattr(fd, _OPAQUE, b"y")


def is_overlay(path: str | int) -> bool:
    """Return whether *path* lies on an overlay, which cannot be the upper directory of another."""
    return file_system(path) == MAGIC


def file_system(path: str | int) -> int:
    """Return the number of the file system's type, 0 where the kernel does not say."""
    buffer = ctypes.create_string_buffer(256)
    if isinstance(path, int):
        failed = _libc.fstatfs(path, buffer)
    else:
        failed = _libc.statfs(os.fsencode(path), buffer)
    # struct statfs begins with f_type, a long.
    return 0 if failed else int(struct.unpack_from("@l", buffer)[0])


def to_image(names: list[str], own: str) -> list[tuple[str, str]]:
    """Return ``(name on disk, name in the layer)`` of the attributes that belong into a layer, sorted.

    These are ``user.*`` and file capabilities. The rest describes this machine, not the image:
    security labels, ACLs inherited from the store's directory, ``trusted.*``. Peers leave them out
    too. So do our own notes about owners. What a step wrote into overlayfs' namespace was escaped by the kernel, one level.
    """
    kept: list[tuple[str, str]] = []
    for name in names:
        if name.startswith(own):
            inner = name[len(own) :]
            if own[0] == "u" and inner.startswith("overlay."):
                kept.append((name, own + inner[len("overlay.") :]))
        elif (name.startswith("user.") and not name.startswith(RESERVED)) or name == CAPABILITY:
            kept.append((name, name))
    return sorted(kept)


def to_disk(name: str, own: str) -> str | None:
    """Return the name under which a layer's attribute is stored, or None to leave it out.

    An attribute in overlayfs' namespace would command the kernel (a redirect can name any path of
    the lower trees), so it is escaped as the kernel would.
    """
    if name == CAPABILITY:
        return name
    if not name.startswith("user.") or name.startswith(RESERVED):
        return None
    if name.startswith(own):
        return own + "overlay." + name[len(own) :]
    return name
