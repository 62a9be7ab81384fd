"""A finished tree as a tar or a directory of the user's [OUT-5, OUT-6, OUT-16].

Lean: runs in workers. The tree is a mounted one, so there are no whiteouts to think of.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.image.layer import confined
from pybuild.image.layer.descent import OPEN_DIR, step
from pybuild.image.layer.faults import MOST_PATH_BYTES, reject, shown, too_deep
from pybuild.image.layer.layertar import write_trees
from pybuild.image.layer.ownership import OwnershipNotes
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pybuild.image.layer.pieces import Chunker

_PIECE = 1 << 20


def trees_tar(
    roots: Iterable[tuple[str, str, int | None]],
    out: Chunker,
    *,
    userxattr: bool = False,
    ledgers: dict[str, OwnershipNotes] | None = None,
) -> None:
    """Write a plain, sorted tar of trees, owners as in the image [OUT-6].

    Args:
        roots: of each, the directory of the archive that it becomes, or none; where it lies; the
            modification time of everything, in seconds [REP-2].
        userxattr: they are mounted inside a user namespace.
    """
    write_trees(roots, out, userxattr=userxattr, ledgers=ledgers)


def leaf_paths(root_dir: str) -> Iterator[bytes]:
    """Yield the paths of all that is no directory in the tree."""
    here = os.open(root_dir, OPEN_DIR)
    levels = [(b"", _entries(here))]
    try:
        while levels:
            prefix, entries = levels[-1]
            if not entries:
                levels.pop()
                if levels:
                    here = step(here, b"..")
                continue
            name, is_directory = entries.pop()
            if is_directory:
                if len(prefix) > MOST_PATH_BYTES:
                    raise too_deep(prefix + name)
                here = step(here, name)
                levels.append((prefix + name + b"/", _entries(here)))
            else:
                yield prefix + name
    finally:
        os.close(here)


def copy_tree(
    src_dir: str,
    dest_dir: str,
    *,
    epoch: int | None = None,
    ledger: OwnershipNotes | None = None,
    replaces: bool = False,
) -> None:
    """Copy a tree into the directory *dest_dir*, made if it is missing [OUT-16].

    Files belong to whoever runs this; modes, times, links and hard links are kept. Set-uid and
    set-gid bits stay only where the owner does: else they would grant another's powers. What is
    already there is replaced, except that directories merge and links in *dest_dir* are never followed.

    Args:
        epoch: the modification time of everything that is written, in seconds [REP-2].
        ledger: the notes about the source's files.
        replaces: files that the source does not have are removed from *dest_dir* [OUT-17].

    Raises:
        UserError: a directory is in the way of a file.
    """
    os.makedirs(dest_dir, exist_ok=True)
    copy = _Copy(epoch, ledger, replaces)
    source = os.open(src_dir, OPEN_DIR)
    try:
        target = os.open(dest_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy.run(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def keep_only(directory: str, names: Iterable[str]) -> None:
    """Remove all that is in *directory* but *names*, at any depth; links are never followed."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _keep_only(fd, [os.fsencode(name) for name in names])
    finally:
        os.close(fd)


def _keep_only(fd: int, names: Iterable[bytes]) -> None:
    for name in set(_names(fd)).difference(names):
        confined.remove(fd, name)


class _Copy:
    def __init__(self, epoch: int | None, ledger: OwnershipNotes | None, replaces: bool) -> None:
        self._ledger = ledger
        self._replaces = replaces
        self._fixed = None if epoch is None else epoch * 1_000_000_000
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, source: int, target: int) -> None:
        """Walk both trees side by side, two descriptors each at any depth."""
        self._target = target
        source_dir, target_dir = os.dup(source), os.dup(target)
        levels = [(b"", _names(source_dir), os.fstat(source_dir), os.fstat(target_dir))]
        try:
            if self._replaces:
                _keep_only(target_dir, levels[0][1])
            while levels:
                prefix, names, status, _ = levels[-1]
                if not names:
                    levels.pop()
                    if levels:
                        # Modes and times last: a read-only directory could not be filled.
                        os.fchmod(target_dir, _mode(status))
                        self._stamp(target_dir, status)
                        source_dir = step(source_dir, b"..")
                        target_dir, left = -1, target_dir
                        target_dir = self._climb(left, prefix, levels[-1][3])
                    continue
                name = names.pop()
                path = prefix + name
                status = os.stat(name, dir_fd=source_dir, follow_symlinks=False)
                if self._ledger is not None:
                    status = self._ledger.view(source_dir, name, status)
                if not stat.S_ISDIR(status.st_mode):
                    self._leaf(source_dir, target_dir, name, path, status)
                    continue
                if len(path) > MOST_PATH_BYTES:
                    raise too_deep(path)
                self._mkdir(target_dir, name)
                source_dir, target_dir = step(source_dir, name), step(target_dir, name)
                levels.append((path + b"/", _names(source_dir), status, os.fstat(target_dir)))
                if self._replaces:
                    _keep_only(target_dir, levels[-1][1])
        finally:
            os.close(source_dir)
            if target_dir >= 0:
                os.close(target_dir)

    def _climb(self, target_dir: int, path: bytes, above: os.stat_result) -> int:
        try:
            return confined.climb(target_dir, above)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise reject(
                f"cannot write {shown(path)}: {error.strerror}",
                "write into a directory that nobody else changes",
            ) from error

    def _mkdir(self, target_dir: int, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=target_dir)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=target_dir, follow_symlinks=False).st_mode):
                return
            os.unlink(name, dir_fd=target_dir)
            os.mkdir(name, 0o700, dir_fd=target_dir)

    def _leaf(
        self, source_dir: int, target_dir: int, name: bytes, path: bytes, status: os.stat_result
    ) -> None:
        mode = status.st_mode
        if stat.S_ISSOCK(mode):
            return
        self._clear(target_dir, name, path)
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first is not path and self._hard_link(first, target_dir, name):
                return
        if stat.S_ISREG(mode):
            self._file(source_dir, target_dir, name, status)
            return
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source_dir), name, dir_fd=target_dir)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(name, _mode(status), dir_fd=target_dir)
        else:
            try:
                os.mknod(name, stat.S_IFMT(mode) | _mode(status), status.st_rdev, dir_fd=target_dir)
            except PermissionError:
                return
        stamp = self._time(status)
        os.utime(name, ns=(stamp, stamp), dir_fd=target_dir, follow_symlinks=False)

    def _clear(self, target_dir: int, name: bytes, path: bytes) -> None:
        try:
            os.unlink(name, dir_fd=target_dir)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError) as error:
            if self._replaces:
                confined.remove(target_dir, name)
                return
            raise reject(
                f"cannot write {shown(path)}: a directory is in the way",
                "empty the destination first",
            ) from error

    def _hard_link(self, first: bytes, target_dir: int, name: bytes) -> bool:
        folder, _, base = first.rpartition(b"/")
        fd = confined.open_beneath(self._target, folder)
        try:
            os.link(base, name, src_dir_fd=fd, dst_dir_fd=target_dir, follow_symlinks=False)
        except FileNotFoundError:
            return False  # a device that could not be made
        finally:
            os.close(fd)
        return True

    def _file(self, source_dir: int, target_dir: int, name: bytes, status: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_dir)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=target_dir)
            try:
                _copy_bytes(source, target, status.st_size)
                os.fchmod(target, _mode(status))
                self._stamp(target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _time(self, status: os.stat_result) -> int:
        return status.st_mtime_ns if self._fixed is None else self._fixed

    def _stamp(self, fd: int, status: os.stat_result) -> None:
        stamp = self._time(status)
        os.utime(fd, ns=(stamp, stamp))


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy a file's content in the kernel, or by hand where the kernel will not."""
    copied = 0
    try:
        while count := os.copy_file_range(source, target, 1 << 30):
            copied += count
    except OSError:
        if copied:
            raise
    # Some file systems answer 0 for files that are not empty.
    if copied < size:
        while data := os.read(source, _PIECE):
            write_all(target, data)


def _mode(status: os.stat_result) -> int:
    same = status.st_uid == os.geteuid() and status.st_gid == os.getegid()
    return stat.S_IMODE(status.st_mode) & (0o7777 if same else 0o1777)


def _names(fd: int) -> list[bytes]:
    return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)


def _entries(fd: int) -> list[tuple[bytes, bool]]:
    """Return names and whether they are directories, last first."""
    with os.scandir(fd) as entries:
        names = [
            (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
        ]
    return sorted(names, reverse=True)
