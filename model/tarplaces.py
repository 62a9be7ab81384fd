"""Where ``cp`` puts what it copies, and how members of a tar get there [CTR-86].

Lean: workers import it, and so does the side of the machine's own files.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from copy import copy

from pybuild.model.border import NamedTuple


class NoPlace(Exception):
    """There is no place for what is to be copied."""


class TarPlace(NamedTuple):
    """The directory that members go to, and the name that the first one gets there.

    Attributes:
        name: "": what is in the first member goes to the directory itself.
    """

    directory: str
    name: str


def place_for(path: str, first: tarfile.TarInfo) -> TarPlace:
    """Return the place of a copy to *path*, a file or the directory *first*, as ``cp -a`` has it.

    Raises:
        NoPlace: a directory would have to become a file. FileNotFoundError: the parent is not there.
    """
    is_directory = path.endswith(("/", "/."))
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        above = os.path.dirname(path.rstrip("/")) or ("/" if path.startswith("/") else ".")
        if is_directory and not first.isdir():
            raise NoPlace(f"no such directory: {path}") from None
        if not os.path.isdir(above):
            raise FileNotFoundError(2, "no such file or directory", above) from None
        return TarPlace(above, os.path.basename(path.rstrip("/")))
    if stat.S_ISDIR(status.st_mode):
        return TarPlace(path, os.path.basename(first.name.rstrip("/")))
    if first.isdir():
        raise NoPlace(f"cannot copy directory: {path} is a file")
    if is_directory:
        raise NoPlace(f"not a directory: {path}")
    return TarPlace(os.path.dirname(path) or ".", os.path.basename(path))


def extract(
    archive: tarfile.TarFile, first: tarfile.TarInfo, place: TarPlace, *, owners: bool
) -> None:
    """Write *first* and the members after it below *place*; nothing is written through a link.

    Args:
        owners: they keep the owners that the archive names; else they are ours, and run as nobody else.

    Raises:
        NoPlace: a member leads out of it, or something else is in its way.
        OSError, TarError: it cannot be written, or read.
    """
    top, base = os.path.realpath(place.directory), first.name.rstrip("/")
    directories: list[tuple[str, tarfile.TarInfo]] = []
    member: tarfile.TarInfo | None = first
    while member is not None:
        path = _target(top, base, place.name, member.name)
        if path:
            if member.islnk():
                _clear(path, member)
                linked = _target(top, base, place.name, member.linkname)
                os.link(linked or top, path, follow_symlinks=False)
            elif _clear(path, member):
                _make(archive, member, path, owners=owners)
                if member.isdir():
                    directories.append((path, member))
        member = archive.next()
    for path, made in reversed(directories):  # what is in them was to be written first
        os.chmod(path, _mode(made, owners=owners))
        os.utime(path, (made.mtime, made.mtime))


def extract_into(
    archive: tarfile.TarFile, top: str, *, replaces: bool, owner: tuple[int, int] | None = None
) -> None:
    """Write all members below the directory *top*, with their owners; links on their way are followed.

    So the boundary is our root directory, and nothing else: for who has another than the machine's.

    Args:
        replaces: a directory takes the place of a file, and the other way round.
        owner: whose all members become, in place of those whom the archive names.

    Raises:
        NoPlace: something else is in the way of a member. OSError, TarError: it cannot be written, or read.
    """
    directories: list[tuple[str, tarfile.TarInfo]] = []
    while (member := archive.next()) is not None:
        path = _followed(top, member.name)
        if not path:
            continue
        if owner is not None:
            member.uid, member.gid = owner
        if replaces:
            _remove_other_kind(path, member)
        if member.islnk():
            _clear(path, member)
            os.link(_followed(top, member.linkname) or top, path, follow_symlinks=False)
        elif _clear(path, member):
            _make(archive, member, path, owners=True)
            if member.isdir():
                directories.append((path, member))
    for path, made in reversed(directories):
        os.chmod(path, _mode(made, owners=True))
        os.utime(path, (made.mtime, made.mtime))


def _followed(top: str, name: str) -> str:
    """Return the path of a member, whose parents are made where they are not there; "" for *top* itself."""
    relative = os.path.normpath("/" + name).strip("/")
    if not relative:
        return ""
    above, _, last = os.path.join(top, relative).rpartition("/")
    above = os.path.realpath(above)
    os.makedirs(above, 0o755, exist_ok=True)
    return os.path.join(above, last)


def _remove_other_kind(path: str, member: tarfile.TarInfo) -> None:
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_directory and not member.isdir():
        shutil.rmtree(path)
    elif member.isdir() and not is_directory:
        os.unlink(path)


def _target(top: str, base: str, name: str, member: str) -> str:
    """Return the path of a member; "" for the directory that is there anyway.

    Raises:
        NoPlace: it leads out of *top*.
    """
    relative = member.rstrip("/")
    if relative == base or relative.startswith(base + "/"):
        relative = name + relative[len(base) :]
    relative = os.path.normpath("/" + relative).strip("/")
    if not relative:
        return ""
    above, _, last = os.path.join(top, relative).rpartition("/")
    if os.path.realpath(above) != (above or "/"):
        raise NoPlace(f"{member}: a link is on the way to it")
    return f"{above}/{last}"


def _clear(path: str, member: tarfile.TarInfo) -> bool:
    """Take away what is in the way of a member; tell whether it is still to be made.

    Raises:
        NoPlace: a directory would have to become a file, or a file a directory.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return True
    if member.isdir():
        if not stat.S_ISDIR(mode):
            raise NoPlace(f"cannot overwrite non-directory {path} with directory {member.name}")
        return False
    if stat.S_ISDIR(mode):
        raise NoPlace(f"cannot overwrite directory {path} with non-directory {member.name}")
    os.unlink(path)
    return True


def _make(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, *, owners: bool) -> None:
    above, _, name = path.rpartition("/")
    ids = (member.uid, member.gid) if owners else (os.geteuid(), os.getegid())
    mode = _mode(member, owners=owners) | (0o700 if member.isdir() else 0)
    made = copy(member)  # as Python 3.11.4 and newer have `TarInfo.replace`
    made.name, (made.uid, made.gid), made.mode = name, ids, mode
    write_as_it_is(archive, made, above or "/", numeric_owner=True)


def write_as_it_is(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str, *, numeric_owner: bool
) -> None:
    """Write a member in *folder* as it says: who calls has looked at it, whatever Python's own filters are."""
    archive.extraction_filter = _as_it_is
    archive.extract(member, folder, numeric_owner=numeric_owner)


def _as_it_is(member: tarfile.TarInfo, path: str, /) -> tarfile.TarInfo:
    """Have tarfile change nothing: Debian 12's, which knows no filters, does not either."""
    del path
    return member


def _mode(member: tarfile.TarInfo, *, owners: bool) -> int:
    """Return the mode that a member gets: what ran as its owner must not run as us, who own it now."""
    return member.mode & (0o7777 if owners else 0o1777)
