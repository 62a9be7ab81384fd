"""The changes from one tree to another, written as a delta that lies on any tree.

An opaque directory hides whatever is below it, also what a merge puts there. In a delta that is made here
nothing is opaque: each entry that went away is hidden by its name. Nor is there anything that a step
touched and left as it was.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote import isolation
from pybuild.image.layer import overlayfs
from pybuild.image.layer.lowerstack import LowerStack
from pybuild.model.border import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND_NS = 1_000_000_000
_PIECE = 1 << 20
_NOTHING: list[bytes] = []


def with_opaque(call: WorkerCall, deltas: Sequence[str]) -> list[int]:
    """Return the places of those directories of *deltas* in which a directory is opaque."""
    own = overlayfs.namespace(isolation.uses_userxattr())
    return [at for at, delta in enumerate(deltas) if _entries(delta, own) is None]


class Written(NamedTuple):
    """The work of `write`: the number of entries, and whether some of them hide others."""

    number: int
    hides: bool


def write(
    call: WorkerCall, lower: Sequence[str], upper: Sequence[str], target: str, under: str
) -> Written:
    """Fill the empty directory *target* with what makes *upper* of *lower*.

    Files are shared with *upper* by hard links: neither ever changes. What the two trees take from
    the same directories is not looked at.

    Args:
        lower, upper: the directories of each tree, base first.
        under: an empty directory too; gets the directories in which something is hidden, to lie below
            *target*: where a directory is in one delta alone, kernels list what hides in it.
    """
    return _Writing(lower, upper, target, under).run()


def count(call: WorkerCall, delta: str) -> int | None:
    """Return the number of entries in the directory *delta*; None where one is opaque."""
    return _entries(delta, overlayfs.namespace(isolation.uses_userxattr()))


def _entries(delta: str, own: str) -> int | None:
    noted = overlayfs.is_overlay(delta)
    number, queue = 0, [delta]
    while queue:
        here = queue.pop()
        if overlayfs.is_opaque(here, own, noted=noted):
            return None
        with os.scandir(here) as entries:
            for entry in entries:
                number += 1
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
    return number


class _Writing:
    def __init__(self, lower: Sequence[str], upper: Sequence[str], target: str, under: str) -> None:
        userxattr = isolation.uses_userxattr()
        self._lower = LowerStack(lower, userxattr=userxattr)
        self._upper = LowerStack(upper, userxattr=userxattr)
        self._target = os.fsencode(target)
        self._own = overlayfs.namespace(userxattr)
        self._under = os.fsencode(under)
        self._places = {b"": self._upper.top[0] if self._upper.top else b""}  # of directories
        self._made = {
            self._target: b"",
            self._under: b"",
        }  # directories, and their paths in the tree
        self._number = 0
        self._hides = False

    def run(self) -> Written:
        levels = [(b"", self._lower.top, self._upper.top)]
        while levels:
            path, lowers, uppers = levels.pop()
            if lowers != uppers:
                levels += self._level(path, lowers, uppers)
        for made, path in reversed(self._made.items()):  # a time is that of the last entry
            if self._places[path]:
                self._look(self._places[path], made)
        return Written(self._number, self._hides)

    def _level(
        self, path: bytes, lowers: list[bytes], uppers: list[bytes]
    ) -> list[tuple[bytes, list[bytes], list[bytes]]]:
        below: list[tuple[bytes, list[bytes], list[bytes]]] = []
        old, new = self._lower.children(lowers), self._upper.children(uppers)
        if gone := sorted(old.keys() - new.keys()):
            self._hide(self._make(path), gone)
            self._directories(self._under, path)
        for name in sorted(new):
            here = path + b"/" + name
            merged, place = new[name]
            old_merged, old_place = old.get(name, (_NOTHING, None))
            if merged:
                self._places[here] = place
                if not old_merged or not _same_look(os.lstat(old_merged[0]), os.lstat(place)):
                    self._make(here)
                below.append((here, old_merged, merged))
            elif old_merged or old_place is None or not _same(old_place, place, self._own):
                os.link(place, self._make(path) + b"/" + name, follow_symlinks=False)
                self._number += 1
        return below

    def _make(self, path: bytes) -> bytes:
        """Return the directory *path* of the delta, made with those above it."""
        self._number += self._directories(self._target, path)
        return self._target + path

    def _directories(self, root: bytes, path: bytes) -> int:
        """Make the directory *path* in *root*, and those above it; return how many were missing."""
        missing: list[bytes] = []
        while root + path not in self._made and path:
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for one in reversed(missing):
            os.mkdir(root + one, 0o700)
            self._made[root + one] = one
        return len(missing)

    def _hide(self, directory: bytes, names: Sequence[bytes]) -> None:
        self._number += len(names)
        self._hides = True
        fd = os.open(directory, _OPEN_DIR)
        try:
            for name in names:
                overlayfs.make_whiteout(fd, name)
        finally:
            os.close(fd)

    def _look(self, source: bytes, target: bytes) -> None:
        status = os.stat(source, follow_symlinks=False)
        os.chown(target, status.st_uid, status.st_gid)
        os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(source):
            if not overlayfs.is_opaque_name(name, self._own):
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _same_look(old: os.stat_result, new: os.stat_result) -> bool:
    return (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) == (
        new.st_mode,
        new.st_uid,
        new.st_gid,
        new.st_rdev,
    )


def _same(old: bytes, new: bytes, own: str) -> bool:
    """Whether two entries that are no directories are one and the same for who compares trees.

    As for the reference, times tell that where they are finer than seconds, contents elsewhere.
    """
    before, after = os.lstat(old), os.lstat(new)
    if os.path.samestat(before, after):
        return True
    if not _same_look(before, after) or before.st_size != after.st_size:
        return False
    if stat.S_ISLNK(after.st_mode):
        return os.readlink(old) == os.readlink(new)
    if _attributes(old, own) != _attributes(new, own):
        return False
    if before.st_mtime_ns // _SECOND_NS != after.st_mtime_ns // _SECOND_NS:
        return False
    if before.st_mtime_ns % _SECOND_NS or after.st_mtime_ns % _SECOND_NS:
        return before.st_mtime_ns == after.st_mtime_ns
    return not stat.S_ISREG(after.st_mode) or _same_content(old, new)


def _attributes(path: bytes, own: str) -> dict[str, bytes]:
    kept = overlayfs.to_image(os.listxattr(path, follow_symlinks=False), own)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name, _ in kept}


def _same_content(old: bytes, new: bytes) -> bool:
    with open(old, "rb") as first, open(new, "rb") as second:
        while piece := first.read(_PIECE):
            if piece != second.read(_PIECE):
                return False
    return True
