"""A store is used only while it is ours alone: what somebody else prepared could lead anywhere.

Its directory and those in it are real directories of the user who runs us, and nobody else reaches
into them. One that was made wider beforehand is narrowed; one in which others may have put something
is looked through first. Below that nobody else ever could write, so nothing there is looked at.
"""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISDIR, S_ISLNK, S_ISREG, S_ISVTX

from pybuild.cache.disk.ownership import OTHERS, doubt, owner, refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.cache.disk.atomic import Warn

    Refusal = tuple[str, tuple[str, ...]]

# Of these each store has all.
DIRECTORIES = ("blobs", "leases", "locks", "logs", "memo", "mounts", "records", "snapshots", "tmp")
_MORE_DIRECTORIES = (
    *(
        "blobs/sha256",
        "blobs/sha512",
        "builds",
        "containers",
        "containers/names",
        "contexts",
        "history",
        "history/blobs",
    ),
    *(
        "history/records",
        "names",
        "owners",
        "refs",
        "registry",
        "registry/repositories",
        "registry/uploads",
    ),
    *("events", "listings", "networks", "statindex", "volumes"),
)
FILES = (
    *("ballast", "gc-stamp", "index.json", "oci-layout", "store.json", "registry/key"),
    *("records/records.db", "records/records.db-wal", "records/records.db-shm"),
    *("records/cache.db", "records/cache.db-wal", "records/cache.db-shm"),
    *("listings/cache.db", "listings/cache.db-wal", "listings/cache.db-shm"),
)
_MARK = "overlay-attributes"  # a link that says something, and leads nowhere
KNOWN = frozenset(
    name
    for name in (*DIRECTORIES, *_MORE_DIRECTORIES, *FILES, _MARK, "lost+found")
    if "/" not in name
)
_WAY_OUT = "name a directory of your own with --root or PYBUILD_ROOT"
# Where the owners and modes of files are not what somebody here made them.
_FOREIGN = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "vfat", "exfat", "ntfs3", "fuseblk")
)


def take(root: str, warn: Warn, *, to_read: bool = False) -> Refusal | None:
    """Make the store at *root*, if it exists, ours alone; return why it cannot be, and the way out.

    Args:
        warn: called if others can read it all the same.
        to_read: nothing will be written, so a store of root's that others may read will do.

    Raises:
        OSError: it cannot be looked at.
    """
    exposure = doubt(root)
    if refuses(exposure):
        if exposure.planted:
            return f"could be anywhere: {exposure.text}", (_WAY_OUT,)
        return (
            f"could be exchanged by others: {exposure.text}",
            (f"take that right away (chmod go-w, chown), or {_WAY_OUT}",),
        )
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return "is not a directory", (_WAY_OUT,)
    except PermissionError:
        return _not_ours(root, os.stat(root).st_uid)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            if status.st_uid == 0 and to_read and not status.st_mode & OTHERS:
                return None
            return _not_ours(root, status.st_uid)
        was = S_IMODE(status.st_mode)
        if was & S_ISVTX:
            return "is a directory for everybody's files", (f"name one in it: {root}/pybuild",)
        if was & 0o077 and not _is_empty_or_store(fd):
            return None  # not a store: refused by what it holds
        # Closed first, so that nobody adds to what is then looked through.
        if was & 0o077 and not _narrowed(fd, was):
            if was & OTHERS:
                return _wide(root, was)
            warn(f"others can read the store {root}: its file system lets us not close it")
        return _contents(fd, was)
    finally:
        os.close(fd)


def _is_empty_or_store(fd: int) -> bool:
    try:
        os.stat("store.json", dir_fd=fd, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return KNOWN.issuperset(os.listdir(fd))


def _narrowed(fd: int, mode: int) -> bool:
    """Close the directory to others; tell whether that worked."""
    try:
        os.fchmod(fd, mode & ~0o077)
    except OSError:
        return False
    return not os.fstat(fd).st_mode & 0o077


def _contents(fd: int, was: int) -> Refusal | None:
    """Return the refusal of an entry that is not ours; *was* is the directory's mode before we closed it."""
    if was & OTHERS:
        names: tuple[str, ...] = (*os.listdir(fd), *_MORE_DIRECTORIES, *FILES)
    else:
        names = (*DIRECTORIES, *_MORE_DIRECTORIES, *FILES)
    directories = {*DIRECTORIES, *_MORE_DIRECTORIES}
    euid = os.geteuid()
    for name in names:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        mode = status.st_mode
        what = ""
        if S_ISLNK(mode) and name != _MARK:
            what = "is a link"
        elif status.st_uid != euid and name != "lost+found":
            what = f"belongs to {owner(status.st_uid)}"
        elif name in directories and not S_ISDIR(mode):
            what = "is not a directory"
        elif S_ISDIR(mode) and was & 0o077 and mode & OTHERS and name != "lost+found":
            what = f"could be written to by others (mode {S_IMODE(mode):04o})"
        elif was & OTHERS and not (S_ISDIR(mode) or S_ISREG(mode) or S_ISLNK(mode)):
            what = "is no regular file"
        elif was & OTHERS and S_ISREG(mode) and status.st_nlink > 1:
            what = "is another name of a file elsewhere"
        if what:
            return (
                f"may hold what others put there: {name} {what}",
                (f"remove {name} if you know where it comes from, or {_WAY_OUT}",),
            )
    return None


def _not_ours(root: str, uid: int) -> Refusal:
    what = f"is not writable for uid {os.geteuid()}; it belongs to {owner(uid)}"
    kind = file_system(root)
    if kind in _FOREIGN:
        return f"{what}, as its file system ({kind}) has it", (
            "put the store on a file system of this machine with PYBUILD_ROOT",
        )
    if os.geteuid() == 0:
        return what.replace("is not writable for", "is not for", 1), (
            f"run this as that user (sudo -u '#{uid}' pybuild …), or {_WAY_OUT}",
        )
    return what, ("put the store elsewhere with PYBUILD_ROOT",)


def _wide(root: str, mode: int) -> Refusal:
    kind = file_system(root)
    return (
        f"can be changed by others (mode {mode:04o}), and its file system ({kind}) lets us not close it",
        ("put the store on a file system that keeps permissions with PYBUILD_ROOT",),
    )


def file_system(path: str) -> str:
    """Return the kind of file system that holds *path*; empty if it cannot be told."""
    try:
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.split()[2] == number:
                    return line.partition(" - ")[2].split()[0]
    except (OSError, IndexError):
        pass
    return ""
