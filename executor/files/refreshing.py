"""Do an earlier copy again, for what has changed of its source since.

The earlier copy lies below what is written here, so everything is already there but the changes, and
overlay brings up the directories that they are in.
"""

from __future__ import annotations

import os

from pybuild.executor.files.copying import Copier
from pybuild.executor.zygote.faults import moved
from pybuild.image.layer import overlayfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pybuild.executor.files.copying import Dir
    from pybuild.executor.files.tree import Tree


class Refresher(Copier):
    """A `Copier` of one directory's contents that passes over what has not changed.

    Attributes:
        changed: the names in each directory, by its path below the source, that are copied; a
            directory stands here if it or something below it has changed.
    """

    changed: Mapping[str, Sequence[str]]

    def _entries(self, node: Dir, path: str, relative: str) -> None:
        prefix = path + "/" if path else ""
        below = relative + "/" if relative else ""
        for name in self.changed.get(relative, ()):
            try:
                status = self._source.status(node.source, name)
            except FileNotFoundError as error:
                raise moved(prefix + name) from error
            self._entry(node, name, status, prefix + name, below + name, name)


def date_parents(target: Tree, before: Tree | None, parents: Sequence[str]) -> None:
    """Give those directories above the destination that this copy would have made, or made something
    in, the time of now: that they are from an earlier copy must not show, as it would below an epoch.

    Args:
        before: the tree without the earlier copy; None is scratch.
    """
    for count in range(1, len(parents) + 1):
        path = "/".join(parents[:count])
        with target.locate(path) as place:
            if place.status is None or not place.is_dir:
                continue
            if before is None or _mtime_ns(before, path) != place.status.st_mtime_ns:
                os.utime(place.name, dir_fd=place.fd, follow_symlinks=False)


def _mtime_ns(tree: Tree, path: str) -> int | None:
    try:
        with tree.locate(path) as place:
            return None if place.status is None else place.status.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_additive(upper: str, *, userxattr: bool) -> bool:
    """Return whether a delta hides nothing that lies below it but files that it has itself.

    Older kernels make every new directory opaque, though there is nothing for it to hide.
    """
    own = overlayfs.namespace(userxattr)
    queue = [upper]
    while queue:
        with os.scandir(queue.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if overlayfs.is_opaque(entry.path, own, noted=False):
                        return False
                    queue.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and overlayfs.is_whiteout(
                    entry.stat(follow_symlinks=False), noted=False
                ):
                    return False
    return True
