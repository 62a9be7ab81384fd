"""Trees for tests: what they hold, read back as plain data."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.image.layer.apply import apply_layer
from pybuild.image.layer.layertar import write_layer
from pybuild.image.layer.pieces import Chunker

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted.*")

Entry = tuple[object, ...]


def look(root: Path, *, xattrs: bool = True) -> dict[bytes, Entry]:
    """Return everything that counts about every entry below *root*; times in whole seconds."""
    found: dict[bytes, Entry] = {}
    inodes: dict[int, bytes] = {}
    top = os.fsencode(root)

    def visit(path: bytes) -> None:
        full = top + b"/" + path
        for name in sorted(os.listdir(full)):
            inner = path + b"/" + name if path else name
            where = top + b"/" + inner
            status = os.lstat(where)
            mode = status.st_mode
            data: object = None
            if stat.S_ISREG(mode):
                data = Path(os.fsdecode(where)).read_bytes()
            elif stat.S_ISLNK(mode):
                data = os.readlink(where)
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                data = status.st_rdev
            whiteout = stat.S_ISCHR(mode) and status.st_rdev == 0
            linked = b""
            if not stat.S_ISDIR(mode) and not whiteout:
                linked = inodes.setdefault(status.st_ino, inner)
            attributes = {
                name: os.getxattr(where, name, follow_symlinks=False)
                for name in (os.listxattr(where, follow_symlinks=False) if xattrs else [])
            }
            owner = () if whiteout else (status.st_uid, status.st_gid, int(status.st_mtime // 1))
            found[inner] = (
                stat.S_IFMT(mode) if whiteout else mode,
                *owner,
                data,
                linked,
                attributes,
            )
            if stat.S_ISDIR(mode):
                visit(inner)

    visit(b"")
    return found


def layer_of(root: Path, *, userxattr: bool = False, clamp_mtime: int | None = None) -> bytes:
    """Return the layer tar of *root*."""
    out = io.BytesIO()
    write_layer(str(root), Chunker.into(out.write), userxattr=userxattr, clamp_mtime=clamp_mtime)
    return out.getvalue()


def void(_: object) -> None:
    """Take a result that does not matter."""


def pieces(data: bytes, size: int = 1000) -> Callable[[], bytes]:
    """Return a stream that hands out *data* in odd pieces."""
    stream = io.BytesIO(data)
    return lambda: stream.read(size)


def unpack(
    data: bytes,
    target: Path,
    *,
    lowers: list[Path] | None = None,
    userxattr: bool = False,
) -> None:
    """Apply a layer tar to *target*, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    below = None if lowers is None else [str(path) for path in lowers]
    apply_layer(pieces(data), str(target), userxattr=userxattr, lowers=below)


def whiteout(path: Path) -> None:
    """Make what overlayfs makes of a deletion."""
    os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: Path, *, userxattr: bool = False) -> bool:
    name = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
    try:
        return os.getxattr(path, name) == b"y"
    except OSError:
        return False
