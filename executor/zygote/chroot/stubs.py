"""Stubs in a step's root where others have mounts: put there before it, taken out after it.

What was in the place is set aside, on the same file system, and comes back with the name that it
had. Nothing of what is put in reaches the layer: it is told by its inode, wherever the step has
moved it.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote import confined
from pybuild.executor.zygote.copied import scanning
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer.confined import remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.copied.scanning import Marks

_AT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class _Parent:
    """A directory of the tree in which something was put.

    Attributes:
        before, after: its status without and with what was put there.
    """

    def __init__(self, path: bytes, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.before = self.after = os.fstat(fd)


class _Stub:
    """Attributes:
    source: where it came from and goes back to; *aside*: where what it covers is, or "".
    """

    def __init__(self, parent: _Parent, name: str, source: str, aside: str) -> None:
        self.parent = parent
        self.name = name
        self.source = source
        self.aside = aside
        # Held, so that nobody else gets its number when the step deletes it.
        self.fd = os.open(source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(self.fd)
        self.inode = (status.st_dev, status.st_ino)


class Stubs:
    """All of one step's.

    Args:
        root: the step's root; *aside*: a path for a directory of ours on its file system.
    """

    def __init__(self, root: str, aside: str) -> None:
        self._root = root
        self._root_fd = os.open(root, _AT)
        self._aside = aside
        self._parents: dict[tuple[int, int], _Parent] = {}
        self._made: list[tuple[_Parent, str, tuple[int, int]]] = []
        self._stubs: list[_Stub] = []
        os.mkdir(aside, 0o700)

    def put(self, source: str, target: str) -> None:
        """Move *source* to *target*, where it is until `take_away`; outer ones first.

        Raises:
            Fault: user; there is no place for it. OSError: EXDEV, it lies elsewhere.
        """
        try:
            real, missing = confined.locate(self._root_fd, target)
            for depth in range(len(real) - missing, len(real) - 1):
                self._make(real[:depth], real[depth])
            parent = self._parent(real[:-1])
            aside = ""
            if not missing:
                self._check_kinds(parent, real[-1], source)
                aside = f"{self._aside}/{len(self._stubs)}"
                os.rename(real[-1], aside, src_dir_fd=parent.fd)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            text = (error.strerror or "").lower()
            raise Fault(USER, f'mount target "{target}": {text}{where}') from error
        self._stubs.append(_Stub(parent, real[-1], source, aside))
        os.rename(source, real[-1], dst_dir_fd=parent.fd)

    def _check_kinds(self, parent: _Parent, name: str, source: str) -> None:
        is_directory = stat.S_ISDIR(os.lstat(source).st_mode)
        status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) != is_directory:
            kind = "a directory" if is_directory else "a file"
            raise OSError(errno.ENOTDIR, f"the source is {kind}, the target is not")

    def settle(self) -> None:
        """Let the directories look as before, and remember that; to be called when all is put."""
        for parent in self._parents.values():
            os.utime(parent.fd, ns=(parent.before.st_atime_ns, parent.before.st_mtime_ns))
            parent.after = os.fstat(parent.fd)

    def take_away(self, marks: Marks) -> None:
        """Take everything out again, and let *marks* of before it know what only we changed."""
        now = {key: os.fstat(parent.fd) for key, parent in self._parents.items()}
        missing = [stub for stub in reversed(self._stubs) if not self._take(stub)]
        if missing:
            self._find({stub.inode: stub for stub in missing})
        restored = [stub for stub in reversed(self._stubs) if stub.aside and self._restore(stub)]
        for parent, name, inode in reversed(self._made):
            if _inode(parent.fd, name) == inode:
                try:
                    os.rmdir(name, dir_fd=parent.fd)
                except OSError:
                    pass  # the step has put something there
        for key, parent in self._parents.items():
            self._settle_parent(parent, now[key], marks)
        for stub in restored:
            self._refresh(stub.parent.path, os.fsencode(stub.name), marks)

    def _take(self, stub: _Stub) -> bool:
        if _inode(stub.parent.fd, stub.name) != stub.inode:
            return False
        os.rename(stub.name, stub.source, src_dir_fd=stub.parent.fd)
        return True

    def _restore(self, stub: _Stub) -> bool:
        """Put back what was set aside, unless its directory is gone; true where it is."""
        try:
            if _inode(stub.parent.fd, stub.name) is not None:
                remove(stub.parent.fd, os.fsencode(stub.name))
            os.rename(stub.aside, stub.name, dst_dir_fd=stub.parent.fd)
        except FileNotFoundError:
            return False
        return True

    def _find(self, missing: dict[tuple[int, int], _Stub]) -> None:
        """Take out what the step has moved somewhere else, and every other name of it."""
        for directory, below, files, fd in os.fwalk(self._root, topdown=True):
            del directory
            for name in (*below, *files):
                stub = missing.get(_inode(fd, name) or (0, 0))
                if stub is None:
                    continue
                if os.path.lexists(stub.source):
                    remove(fd, os.fsencode(name))
                else:
                    os.rename(name, stub.source, src_dir_fd=fd)
            below[:] = [name for name in below if _inode(fd, name) is not None]

    # --- directories on the way -------------------------------------------------------------------

    def _parent(self, real: list[str]) -> _Parent:
        fd = confined.open_in(self._root_fd, "/".join(real) or ".", _AT, links=False)
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        if key in self._parents:
            os.close(fd)
        else:
            self._parents[key] = _Parent(os.fsencode("/".join(real)), fd)
        return self._parents[key]

    def _make(self, real: list[str], name: str) -> None:
        parent = self._parent(real)
        os.mkdir(name, 0o755, dir_fd=parent.fd)
        made = self._parent([*real, name])
        self._made.append((parent, name, (made.before.st_dev, made.before.st_ino)))

    def _settle_parent(self, parent: _Parent, now: os.stat_result, marks: Marks) -> None:
        """Give a directory the time that it had without us."""
        untouched = scanning.mark(now) == scanning.mark(parent.after)
        shown = parent.before if now.st_mtime_ns == parent.after.st_mtime_ns else now
        try:
            os.utime(parent.fd, ns=(shown.st_atime_ns, shown.st_mtime_ns))
        except OSError:
            return
        if untouched and parent.path:
            above, _, name = parent.path.rpartition(b"/")
            self._refresh(above, name, marks)

    def _refresh(self, directory: bytes, name: bytes, marks: Marks) -> None:
        """Let the mark of something that is as it was be the one that it has now."""
        known = marks.entries.get(directory, {}).get(name)
        path = os.fsencode(self._root) + b"/" + (directory + b"/" if directory else b"") + name
        try:
            status = os.lstat(path)
        except OSError:
            return
        if known is not None and known[0] == status.st_ino:
            marks.entries[directory][name] = scanning.mark(status)


def _inode(fd: int, name: str) -> tuple[int, int] | None:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino
