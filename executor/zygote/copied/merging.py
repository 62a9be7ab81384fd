"""A stack of deltas as one directory tree, by overlayfs' rules and without mounting anything.

Top first, the first to have a name decides: a whiteout hides it, a file is it, directories merge
down to the first that is opaque. The deltas are committed and the target is ours, so nobody races us.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote import ulimits
from pybuild.executor.zygote.copied import leaves
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.image.layer import overlayfs
from pybuild.image.layer.descent import OPEN_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Place = Callable[[int, str, int, os.stat_result], None]


class _Level:
    """A directory that is being filled.

    Attributes:
        lowers: the directories that merge into it, top first; *target*: itself.
        below: names of directories still to be filled, each with the *lowers* that have it.
    """

    def __init__(self, lowers: list[int], target: int) -> None:
        self.lowers = lowers
        self.target = target
        self.below: list[tuple[str, list[int]]] = []

    def close(self) -> None:
        for fd in (*self.lowers, self.target):
            os.close(fd)


def merge(lowers: Sequence[str], target: str, place: Place, *, userxattr: bool) -> None:
    """Fill the empty directory *target* with the tree of *lowers*, base first.

    Args:
        place: `leaves.link` or one of the copies there.

    Raises:
        Fault: environment; so many directories inside each other that they cannot all be open.
        OSError: the file system failed us.
    """
    work = _Merge(place, overlayfs.namespace(userxattr))
    ulimits.raise_file_limit()
    try:
        work.run(list(dict.fromkeys(reversed(lowers))), target)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        raise Fault(
            ENVIRONMENT,
            "cannot copy the step's root: more directories inside each other than may be open",
            ("raise the limit on open files (ulimit -n)",),
        ) from error
    finally:
        work.close()


class _Merge:
    def __init__(self, place: Place, own: str) -> None:
        self._place = place
        self._own = own
        self._noted = False
        self._levels: list[_Level] = []

    def close(self) -> None:
        while self._levels:
            self._levels.pop().close()

    def run(self, top_first: Sequence[str], target: str) -> None:
        # The first may be a link in /proc to a directory that is open already.
        flags = OPEN_DIR & ~os.O_NOFOLLOW
        fds = [os.open(path, flags) for path in top_first]
        self._noted = bool(fds) and overlayfs.is_overlay(fds[0])
        self._enter(fds, os.open(target, OPEN_DIR))
        while self._levels:
            level = self._levels[-1]
            if not level.below:
                if level.lowers:
                    source = level.lowers[0]
                    leaves.describe(source, level.target, os.fstat(source))
                self._levels.pop().close()
                continue
            name, having = level.below.pop()
            os.mkdir(name, 0o700, dir_fd=level.target)
            inner = [os.open(name, OPEN_DIR, dir_fd=fd) for fd in having]
            self._enter(inner, os.open(name, OPEN_DIR, dir_fd=level.target))

    def _enter(self, lowers: list[int], target: int) -> None:
        level = _Level(lowers, target)
        self._levels.append(level)
        directories: dict[str, list[int]] = {}
        closed: set[str] = set()
        for fd in lowers:
            with os.scandir(fd) as entries:
                listed = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
            for name, status in listed:
                if name in closed:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    directories.setdefault(name, []).append(fd)
                    if overlayfs.is_opaque(
                        f"/proc/self/fd/{fd}/{name}", self._own, noted=self._noted
                    ):
                        closed.add(name)
                    continue
                closed.add(name)
                if name not in directories and not overlayfs.is_whiteout(
                    status, fd, name, noted=self._noted
                ):
                    self._place(fd, name, target, status)
        level.below = list(directories.items())
