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


def _inside(name: str, folder: str) -> str:
    relative = name.lstrip("/" + os.sep)
    root = os.path.realpath(folder)
    place = os.path.realpath(os.path.join(root, relative))
    if os.path.isabs(relative) or os.path.commonpath((root, place)) != root:
        raise UserError(f'archive: "{name}" leads out of {folder}')
    return relative
