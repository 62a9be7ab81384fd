"""Members of an engine's archives, before they are unpacked here: none leads out of its place.

It does what `tarfile.tar_filter` does, which the Python of Debian 12 has not, and looks at hard links, too.
"""

from __future__ import annotations

import copy
import os
import tarfile

from pybuild.model.errors import UserError

_MODE = 0o755


def checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Return *member* as it may be unpacked in *folder*: nobody else may write it, and it runs as whoever starts it.

    Raises:
        UserError: its name, or what it is a hard link to, leads out of the folder.
    """
    made = copy.copy(member)
    made.name = _inside(member.name, folder)
    if member.islnk():
        made.linkname = _inside(member.linkname, folder)
    made.mode = (member.mode or 0) & _MODE
    return made


def unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str, *, owners: bool) -> None:
    """Unpack a member that is `checked`."""
    archive.extraction_filter = _as_it_is  # that of 3.14 would check again, by other rules
    archive.extract(member, folder, numeric_owner=owners)


def _as_it_is(member: tarfile.TarInfo, _folder: str, /) -> tarfile.TarInfo:
    return member


def _inside(name: str, folder: str) -> str:
    relative = name.lstrip("/" + os.sep)
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, relative))
    if os.path.isabs(relative) or os.path.commonpath((root, place)) != root:
        raise UserError(f'archive: "{name}" leads out of {folder}')
    return relative
