"""Deltas that hide only what lies below them in their own stack, to be merged with other trees.

An opaque directory hides whatever is below it, also what a merge puts there. Written out, it hides the
entries that its own stack has in its place, and those alone.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote import isolation
from pybuild.image.layer import overlayfs
from pybuild.image.layer.lowerstack import LowerStack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def with_opaque(call: WorkerCall, deltas: Sequence[str]) -> list[int]:
    """Return the places of those directories of *deltas* in which a directory is opaque."""
    own = overlayfs.namespace(isolation.uses_userxattr())
    return [at for at, delta in enumerate(deltas) if _has_opaque(delta, own)]


def _has_opaque(delta: str, own: str) -> bool:
    noted = overlayfs.is_overlay(delta)
    queue = [delta]
    while queue:
        here = queue.pop()
        if overlayfs.is_opaque(here, own, noted=noted):
            return True
        with os.scandir(here) as entries:
            queue += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return False


def write_out(call: WorkerCall, below: Sequence[str], delta: str, target: str) -> None:
    """Fill the empty directory *target* with *delta*, its opaque directories written out.

    Files are shared with *delta* by hard links: neither ever changes.

    Args:
        below: the directories that *delta* was made on, base first.
    """
    userxattr = isolation.uses_userxattr()
    _Writing(LowerStack(below, userxattr=userxattr), delta, target, userxattr).run()


class _Writing:
    def __init__(self, lowers: LowerStack, delta: str, target: str, userxattr: bool) -> None:
        self._lowers = lowers
        self._delta = os.fsencode(delta)
        self._target = os.fsencode(target)
        self._own = overlayfs.namespace(userxattr)
        self._noted = overlayfs.is_overlay(delta)

    def run(self) -> None:
        levels: list[tuple[bytes, bool]] = [(b"", False)]
        made: list[bytes] = []
        while levels:
            path, hides = levels.pop()
            made.append(path)
            levels += self._level(path, hides)
        for path in reversed(made):  # a directory's time is that of its last entry
            self._look(self._delta + path, self._target + path)

    def _level(self, path: bytes, hides: bool) -> list[tuple[bytes, bool]]:
        source, target = self._delta + path, self._target + path
        hides = hides or overlayfs.is_opaque(source, self._own, noted=self._noted)
        below: list[tuple[bytes, bool]] = []
        with os.scandir(source) as entries:
            names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
        for name, is_directory in sorted(names.items()):
            if is_directory:
                os.mkdir(target + b"/" + name, 0o700)
                below.append((path + b"/" + name, hides))
            else:
                os.link(source + b"/" + name, target + b"/" + name, follow_symlinks=False)
        if hides:
            fd = os.open(target, _OPEN_DIR)
            try:
                for name in self._lowers.names(path.lstrip(b"/")):
                    if name not in names:
                        overlayfs.make_whiteout(fd, name)
            finally:
                os.close(fd)
        return below

    def _look(self, source: bytes, target: bytes) -> None:
        status = os.stat(source, follow_symlinks=False)
        os.chown(target, status.st_uid, status.st_gid)
        os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            if not overlayfs.is_opaque_name(name, self._own):
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
