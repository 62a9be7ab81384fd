"""Owners and device nodes that the file system could not be told: they are noted beside the files.

In a user namespace with one id every file belongs to that id and no device can be made. What a
build wanted instead is kept in attributes of the file (``user.pybuild.…``), which overlayfs carries
along in a copy-up, and a device is an empty file with such a note. Links, FIFOs and sockets can
carry no attributes; theirs are in a list beside the delta, ``<delta>.owners``, by path.

Nothing but owners and device numbers is believed of a note, and a step could have set those itself
with chown and mknod: whoever forges one gains nothing. The names are ours alone: steps may not set
them, and they are never part of a layer.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.image.layer.descent import directories
from pybuild.image.layer.faults import MOST_PATH_BYTES
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "user.pybuild."
OWNER = PREFIX + "owner"
"""``uid:gid``, decimal; absent for 0:0."""
NODE = PREFIX + "node"
"""``c:major:minor`` or ``b:major:minor``: the file stands for this device."""
LIST_SUFFIX = ".owners"

_MAX_ID = (1 << 32) - 2
_MAX_LIST_BYTES = 256 << 20
_KINDS = {b"c": stat.S_IFCHR, b"b": stat.S_IFBLK}
_NONE = (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES)

Ids = tuple[int, int]


def read_owner(path: str | int) -> Ids | None:
    """Return the owner noted on the file itself; a link at the end of *path* is not followed.

    A note that does not parse counts as none.
    """
    value = _get(path, OWNER)
    return None if value is None else parse_owner(value)


def parse_owner(value: bytes) -> Ids | None:
    uid, _, gid = value.partition(b":")
    if not (uid.isdigit() and gid.isdigit() and len(value) <= 21):
        return None
    ids = int(uid), int(gid)
    return ids if max(ids) <= _MAX_ID else None


def read_node(path: str | int) -> tuple[int, int] | None:
    """Return ``(file type, device number)`` of the device that a file stands for."""
    value = _get(path, NODE)
    return None if value is None else parse_node(value)


def parse_node(value: bytes) -> tuple[int, int] | None:
    parts = value.split(b":")
    if len(parts) != 3 or parts[0] not in _KINDS:
        return None
    if not all(part.isdigit() and len(part) <= 10 for part in parts[1:]):
        return None
    major, minor = int(parts[1]), int(parts[2])
    if major >= 1 << 12 or minor >= 1 << 20 or (major == minor == 0 and parts[0] == b"c"):
        return None
    return _KINDS[parts[0]], os.makedev(major, minor)


def write_owner(path: str | int, uid: int, gid: int) -> None:
    """Note an owner on a regular file or directory; 0:0 takes the note away.

    Raises:
        OSError: EPERM, it is something else; ENOTSUP, the file system has no attributes.
    """
    if uid == 0 and gid == 0:
        try:
            if isinstance(path, int):
                os.removexattr(path, OWNER)
            else:
                os.removexattr(path, OWNER, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NONE:
                raise
        return
    _set(path, OWNER, b"%d:%d" % (uid, gid))


def try_owner(path: str | int, uid: int, gid: int) -> None:
    """Note an owner where that is possible; for what is not part of a layer."""
    try:
        write_owner(path, uid, gid)
    except OSError as error:
        if error.errno not in _NONE:
            raise


def write_node(path: str | int, mode: int, device: int) -> None:
    """Make an empty regular file stand for a device."""
    kind = b"c" if stat.S_ISCHR(mode) else b"b"
    _set(path, NODE, b"%s:%d:%d" % (kind, os.major(device), os.minor(device)))


def make_node(fd: int, name: str, mode: int, device: int) -> None:
    """Make a new file in the directory *fd* that stands for a device.

    Raises:
        FileExistsError: something is there.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    made = os.open(name, flags, stat.S_IMODE(mode), dir_fd=fd)
    try:
        write_node(made, mode, device)
    except OSError:
        os.unlink(name, dir_fd=fd)
        raise
    finally:
        os.close(made)


def _get(path: str | int, name: str) -> bytes | None:
    try:
        if isinstance(path, int):
            return os.getxattr(path, name)
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def _set(path: str | int, name: str, value: bytes) -> None:
    if isinstance(path, int):
        os.setxattr(path, name, value)
    else:
        os.setxattr(path, name, value, follow_symlinks=False)


def can_carry(mode: int) -> bool:
    """Return whether the kernel lets a file of this type have ``user.*`` attributes."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


# --- statuses -------------------------------------------------------------------------------------


def amended(
    status: os.stat_result,
    owner: Ids | None,
    node: tuple[int, int] | None = None,
    *,
    mode: int | None = None,
) -> os.stat_result:
    """Return *status* as it would be if the file system had been told."""
    if owner is None and node is None and mode is None:
        return status
    fields = list(status)
    if mode is not None:
        fields[stat.ST_MODE] = mode
    if owner is not None:
        fields[stat.ST_UID], fields[stat.ST_GID] = owner
    more = {
        "st_atime_ns": status.st_atime_ns,
        "st_mtime_ns": status.st_mtime_ns,
        "st_ctime_ns": status.st_ctime_ns,
        "st_blksize": status.st_blksize,
        "st_blocks": status.st_blocks,
        "st_rdev": status.st_rdev,
    }
    if node is not None:
        fields[stat.ST_MODE] = node[0] | stat.S_IMODE(status.st_mode)
        fields[stat.ST_SIZE] = 0
        more["st_rdev"] = node[1]
    return os.stat_result(fields, more)


class OwnershipNotes:
    """The notes about the files of some deltas, as one view of them.

    Attributes:
        owners: by inode number, of what can carry no attributes. An overlay shows the numbers of
            the files below it, and all deltas lie on one file system.
        notes_owners: owners are noted; else the kernel can have them, and only devices are.
    """

    def __init__(self, deltas: Iterable[str] = (), *, notes_owners: bool = True) -> None:
        self.notes_owners = notes_owners
        self.owners: dict[int, Ids] = {}
        for delta in deltas:
            for path, ids in read_list(delta).items():
                try:
                    status = os.lstat(os.fsencode(delta) + b"/" + path)
                except OSError:
                    continue
                if not can_carry(status.st_mode):
                    self.owners[status.st_ino] = ids

    def view(self, fd: int, name: str | bytes, status: os.stat_result) -> os.stat_result:
        """Return the status of *name* in the directory *fd* with what is noted; *status* is raw."""
        if not can_carry(status.st_mode):
            return amended(status, self.owners.get(status.st_ino))
        path = f"/proc/self/fd/{fd}/{os.fsdecode(name)}"
        try:
            owner = read_owner(path)
            node = read_node(path) if stat.S_ISREG(status.st_mode) and not status.st_size else None
        except FileNotFoundError:
            return status
        return amended(status, owner, node)

    def give(self, fd: int, name: str | None, uid: int, gid: int) -> None:
        """Set the owner of *name* in the directory *fd*, or of *fd* itself.

        The directory must be ours alone: what is looked at first is what is given away.
        """
        if not self.notes_owners:
            if name is None:
                os.fchown(fd, uid, gid)
            else:
                os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        elif name is None:
            write_owner(fd, uid, gid)
        else:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if can_carry(status.st_mode):
                write_owner(f"/proc/self/fd/{fd}/{name}", uid, gid)
            elif uid or gid:
                self.owners[status.st_ino] = (uid, gid)
            else:
                self.owners.pop(status.st_ino, None)

    def save(self, upper: str, merged: str | None = None) -> None:
        """Write the list of the delta *upper*.

        Args:
            merged: where the delta is the top of a mounted overlay: there a link that was copied up
                is still known by its number below.
        """
        if not self.owners or not self.notes_owners:
            return
        owners: dict[bytes, Ids] = {}
        base = os.fsencode(upper)
        above = os.fsencode(merged) if merged is not None else None
        for path, number in uncarried(base):
            ids = self.owners.get(number)
            if ids is None and above is not None:
                try:
                    ids = self.owners.get(os.lstat(above + b"/" + path).st_ino)
                except OSError:
                    continue
            if ids is not None and ids != (0, 0):
                owners[path] = ids
        write_list(upper, owners)


def uncarried(base: bytes) -> Iterable[tuple[bytes, int]]:
    """Yield path and inode number of all in a delta that can carry no attributes."""
    for fd, prefix, below in directories(base):
        yield from _listed(fd, prefix, below)
        if len(prefix) > MOST_PATH_BYTES:
            below.clear()  # No image can hold what lies there.


def _listed(fd: int, prefix: bytes, below: list[bytes]) -> Iterable[tuple[bytes, int]]:
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                below.append(name)
            elif not entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                    yield prefix + name, status.st_ino


# --- the list beside a delta ----------------------------------------------------------------------


def write_list(delta: str, owners: Mapping[bytes, Ids]) -> None:
    """Write the owners of what carries no attributes; none leaves no file."""
    if not owners:
        return
    lines = [b"%d:%d:%s" % (*owners[path], path) for path in sorted(owners)]
    data = b"\0".join(lines)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(delta.rstrip("/") + LIST_SUFFIX, flags, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def read_list(delta: str) -> dict[bytes, Ids]:
    """Return the list of a delta, empty where there is none; what does not parse is passed over."""
    try:
        fd = os.open(delta.rstrip("/") + LIST_SUFFIX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return {}
        raise
    try:
        data = b""
        while len(data) < _MAX_LIST_BYTES and (piece := os.read(fd, 1 << 20)):
            data += piece
    finally:
        os.close(fd)
    owners: dict[bytes, Ids] = {}
    for line in data.split(b"\0"):
        uid, _, rest = line.partition(b":")
        gid, _, path = rest.partition(b":")
        ids = parse_owner(uid + b":" + gid)
        if ids is not None and path and b".." not in path.split(b"/"):
            owners[path] = ids
    return owners
