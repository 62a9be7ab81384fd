"""How overlayfs writes deletions into an upper directory, and which attributes are its own.

Source: the kernel's overlayfs documentation; `measured-facts`, section 4.
"""

from __future__ import annotations

import os
import stat

from pybuild.image.recorded import PREFIX as RESERVED

WHITEOUT_PREFIX = b".wh."
OPAQUE_NAME = b".wh..wh..opq"
CAPABILITY = "security.capability"


def namespace(userxattr: bool) -> str:
    """Return the prefix of overlayfs' own attributes: ``trusted.`` or, in user namespaces, ``user.``"""
    return "user.overlay." if userxattr else "trusted.overlay."


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether a directory entry is a character device 0:0 [IMG-13]."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def make_whiteout(fd: int, name: bytes) -> None:
    """Hide *name*, which the directory *fd* does not have, in the layers below.

    Raises:
        FileExistsError: something is there.
    """
    os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=fd)


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
