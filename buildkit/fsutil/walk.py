"""The entries of a directory in the order of a transfer, as far as patterns pick them.

What is sent: what an include pattern or a followed path covers (everything, without either), and
no exclude pattern does. A directory that is not picked itself is sent as soon as something below
it is. Owners are not sent: to the other end everything is root's.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Self

from pybuild.buildkit.fsutil.attributes import own_attributes
from pybuild.buildkit.fsutil.followed import followed
from pybuild.buildkit.fsutil.packet import Stat
from pybuild.buildkit.fsutil.sender import stat_entry
from pybuild.image.layer.confined import open_beneath
from pybuild.model.files import as_git_has_it
from pybuild.model.patterns import PatternMatcher

_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What is said of a name that is somebody else's by now, or nobody's.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Walk:
    """A directory to be sent; use as a context manager.

    Args:
        include, exclude: patterns as in ignore files.
        follow: paths, wildcards allowed, that are included with the targets of links on the way.
        keep_owners: send owners, for trees that are no directory of a user.
        attributes: tell the extended attributes that belong to a file's content.
        git_modes: tell the modes that git would store.

    Raises:
        ValueError: a pattern is malformed. OSError: the directory cannot be read.
    """

    def __init__(
        self,
        root: str,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow: Sequence[str] = (),
        keep_owners: bool = False,
        attributes: bool = False,
        git_modes: bool = False,
    ) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._keep_owners = keep_owners
        self._attributes = attributes
        self._git_modes = git_modes
        try:
            picked = [*include, *(followed(self._root, follow) if follow else ())]
            self._everything = not include and (not follow or "" in picked)
            self._include = _Included(picked)
            self._exclude = PatternMatcher(exclude) if exclude else None
        except BaseException:
            os.close(self._root)
            raise
        self._inodes: dict[tuple[int, int], bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._root)

    def open(self, path: bytes) -> _File:
        """Open a file that was listed, no part of whose path may be a link by now."""
        folder, _, name = path.rpartition(b"/")
        fd = open_beneath(self._root, folder)
        try:
            return _File(os.open(name, _READ, dir_fd=fd))
        finally:
            os.close(fd)

    def entries(self) -> Iterator[Stat]:
        """Give the entries in order; files that go meanwhile are left out."""
        fd = os.dup(self._root)
        try:
            yield from self._directory(fd, b"", [])
        finally:
            os.close(fd)

    def _directory(self, fd: int, path: bytes, pending: list[Stat]) -> Iterator[Stat]:
        prefix = path + b"/" if path else b""
        for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            here = prefix + name
            text = os.fsdecode(here)
            is_dir = stat.S_ISDIR(status.st_mode)
            hidden = self._exclude is not None and self._exclude.matches(text)
            if hidden and not (is_dir and not self._skips(text)):
                continue
            picked = not hidden and (self._everything or self._include.covers(text))
            if not is_dir:
                if picked:
                    entry = self._entry(fd, name, here, status)
                    if entry is not None:
                        yield from pending
                        pending.clear()
                        yield entry
                continue
            if not picked and not (self._everything or self._include.may_cover_below(text)):
                continue
            entry = self._entry(fd, name, here, status)
            try:
                below = os.open(name, _OPEN_DIR, dir_fd=fd)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise
            assert entry is not None
            try:
                if picked:
                    yield from pending
                    pending.clear()
                    yield entry
                    yield from self._directory(below, here, [])
                else:
                    inner = [*pending, entry]
                    for below_it in self._directory(below, here, inner):
                        pending.clear()
                        yield below_it
            finally:
                os.close(below)

    def _skips(self, path: str) -> bool:
        return self._exclude is not None and self._exclude.can_skip_dir(path)

    def _entry(self, fd: int, name: bytes, path: bytes, status: os.stat_result) -> Stat | None:
        """Return the message for an entry; None: it is a link that went meanwhile."""
        mode = as_git_has_it(status.st_mode) if self._git_modes else status.st_mode
        entry = stat_entry(path, mode, status.st_size, status.st_mtime_ns)
        if self._keep_owners:
            entry.uid, entry.gid = status.st_uid, status.st_gid
        if stat.S_ISLNK(mode):
            try:
                entry.linkname = os.readlink(name, dir_fd=fd)
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        elif status.st_nlink > 1 and stat.S_ISREG(mode):
            first = self._inodes.setdefault((status.st_dev, status.st_ino), path)
            if first is not path:
                entry.linkname = first
        if self._attributes and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            entry.xattrs = own_attributes(b"/proc/self/fd/%d/%s" % (fd, name))
        return entry


class _File:
    """A file opened for reading, without a buffer."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, /) -> bytes:
        return os.read(self._fd, size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Included:
    """Patterns of requested paths, and of directories that may hold some."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._matcher = PatternMatcher(patterns)
        # Where a pattern has something below, each directory on its way is matched by its head.
        heads: list[str] = []
        self._deep = any("**" in pattern or pattern.startswith("!") for pattern in patterns)
        for pattern in patterns:
            parts = [part for part in pattern.split("/") if part]
            heads += ["/".join(parts[:count]) for count in range(1, len(parts))]
        self._heads = PatternMatcher(sorted(set(heads)))

    def covers(self, path: str) -> bool:
        return self._matcher.matches(path)

    def may_cover_below(self, path: str) -> bool:
        return self._deep or self._heads.matches(path)
