"""Extended attributes that belong to a file's content: ``user.*`` and capabilities [KEY-2, CP-25].

The rest is of one machine: security labels, ACLs, ``trusted.*``, what overlayfs noted down.
"""

from __future__ import annotations

import os


def is_own(name: bytes) -> bool:
    """Return whether an attribute is the file's own, and not its machine's."""
    return name == b"security.capability" or (
        name.startswith(b"user.") and not name.startswith((b"user.overlay.", b"user.com.apple."))
    )


def own_attributes(path: bytes | int) -> dict[bytes, bytes]:
    """Return the attributes of *path*, no link followed; none where there are no such things."""
    follow = isinstance(path, int)  # a descriptor is no link, and says so by an error
    try:
        names = os.listxattr(path, follow_symlinks=follow)
        if not names:
            return {}
        own = [name for name in map(os.fsencode, names) if is_own(name)]
        return {name: os.getxattr(path, name, follow_symlinks=follow) for name in own}
    except OSError:
        return {}


def set_own(fd: int, name: bytes, value: bytes) -> None:
    """Set one, if it is of those, as well as the file system takes it."""
    if is_own(name):
        try:
            os.setxattr(fd, name, value)
        except OSError:
            pass
