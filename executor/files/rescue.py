"""Worker function that copies files of a failed step out of its trees, into a directory of the user's.

Nothing of it can do harm there: regular files and directories without special bits, and links that
stay below the directory. Paths are resolved in their tree, through descriptors.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.selecting import Picker, find, select
from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import Rescued
from pybuild.executor.zygote.copied.views import view
from pybuild.executor.zygote.faults import Fault
from pybuild.image.layer.descent import OPEN_DIR, directories
from pybuild.image.layer.faults import MOST_PATH_BYTES
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pybuild.executor.files.values import RescueOrder
    from pybuild.model.border import WorkerCall

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_MOST_NAMED = 10


def rescue(
    call: WorkerCall, orders: Sequence[RescueOrder], most_files: int, most_bytes: int
) -> Rescued:
    """Copy what *orders* name into the directory handed over, and tell what came of it."""
    copy = _Copying(call.fds[0], most_files, most_bytes)
    for order in orders:
        if order.is_delta:
            copy.all_of(order.lowers[0])
        else:
            copy.order(order)
    return copy.outcome()


class _Copying:
    def __init__(self, target: int, most_files: int, most_bytes: int) -> None:
        self._target = target
        self._files_left = most_files
        self._bytes_left = most_bytes
        self._files = 0
        self._bytes = 0
        self._large: list[str] = []
        self._large_count = 0
        self._special = 0
        self._absent: list[str] = []
        self._done: set[bytes] = set()
        self._folder = (b"", os.dup(target))

    def outcome(self) -> Rescued:
        os.close(self._folder[1])
        names = tuple(self._large)
        absent = tuple(self._absent)
        return Rescued(self._files, self._bytes, names, self._large_count, self._special, absent)

    def all_of(self, delta: str) -> None:
        """Copy what a delta has; what it hides was never in it."""
        fd = os.open(delta, OPEN_DIR)
        try:
            self._below(fd, b"")
        finally:
            os.close(fd)

    def order(self, order: RescueOrder) -> None:
        path = view(order.mount_dir, order.lowers, userxattr=order.userxattr)
        with Tree.open(path) as tree:
            try:
                paths = list(_selected(tree, order.pattern))
            except Fault:
                paths = []
            there = False
            for one in paths:
                inside = one.removeprefix(order.strip.strip("/")).strip("/")
                name = os.fsencode(f"{order.prefix.strip('/')}/{inside}".strip("/"))
                there |= self._selected(tree, one, name)
            if not there:
                self._absent.append(order.shown)

    def _selected(self, tree: Tree, path: str, name: bytes) -> bool:
        """Copy one path, which is called *name* in the target; whether it is there."""
        try:
            place = find(tree, path, follow=True)
        except (FileNotFoundError, Fault):
            return False
        with place:
            if not place.is_dir:
                self._leaf(place.fd, os.fsencode(place.name), name)
                return True
            fd = os.open(place.name or ".", OPEN_DIR, dir_fd=place.fd)
        try:
            self._below(fd, name)
        finally:
            os.close(fd)
        return True

    def _below(self, fd: int, name: bytes) -> None:
        """Copy all that is in the directory *fd*, into one of that name."""
        for here, prefix, below in directories(f"/proc/self/fd/{fd}/."):
            path = name + b"/" + prefix if name else prefix
            if len(path) > MOST_PATH_BYTES:
                continue
            for entry in sorted(map(os.fsencode, os.listdir(here))):
                status = os.stat(entry, dir_fd=here, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    below.append(entry)
                else:
                    self._leaf(here, entry, path + entry)

    def _leaf(self, fd: int, entry: bytes, name: bytes) -> None:
        if name in self._done:
            return
        status = os.stat(entry, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            self._link(os.readlink(entry, dir_fd=fd), name)
        elif stat.S_ISREG(status.st_mode):
            self._file(fd, entry, name)
        elif not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):  # the mark of a removal
            self._special += 1

    def _file(self, fd: int, entry: bytes, name: bytes) -> None:
        source = os.open(entry, _READ, dir_fd=fd)
        try:
            status = os.fstat(source)
            if not self._files_left or status.st_size > self._bytes_left:
                self._large_count += 1
                if len(self._large) < _MOST_NAMED:
                    self._large.append("/" + name.decode("utf-8", "replace"))
                return
            target = os.open(self._place(name), _WRITE, 0o600, dir_fd=self._folder[1])
            try:
                while data := os.read(source, _PIECE):
                    write_all(target, data)
                os.fchmod(target, status.st_mode & 0o755 | 0o600)
                os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
            finally:
                os.close(target)
        finally:
            os.close(source)
        self._done.add(name)
        self._files += 1
        self._files_left -= 1
        self._bytes += status.st_size
        self._bytes_left -= status.st_size

    def _link(self, to: bytes, name: bytes) -> None:
        depth = name.count(b"/")
        for part in to.split(b"/"):
            depth += -1 if part == b".." else part not in (b"", b".")
            if depth < 0:
                break
        if to.startswith(b"/") or depth < 0 or not self._files_left:
            self._special += 1
            return
        os.symlink(to, self._place(name), dir_fd=self._folder[1])
        self._done.add(name)
        self._files_left -= 1

    def _place(self, name: bytes) -> bytes:
        """Make the directory of *name* the folder, without anything of that name; return its last part."""
        folder, _, last = name.rpartition(b"/")
        if folder != self._folder[0]:
            os.close(self._folder[1])
            self._folder = (folder, self._enter(folder))
        try:
            os.unlink(last, dir_fd=self._folder[1])
        except FileNotFoundError:
            pass
        return last

    def _enter(self, folder: bytes) -> int:
        fd = os.dup(self._target)
        for part in filter(None, folder.split(b"/")):
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
            except FileExistsError:
                status = os.stat(part, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    os.unlink(part, dir_fd=fd)
                    os.mkdir(part, 0o755, dir_fd=fd)
            inner = os.open(part, OPEN_DIR, dir_fd=fd)
            os.close(fd)
            fd = inner
        return fd


def _selected(tree: Tree, pattern: str) -> Iterator[str]:
    """Yield the paths that *pattern* names: ``**`` stands for directories at any depth."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if "**" not in parts:
        yield from (source.path for source in select(tree, pattern, wildcard=True))
        return
    first = next(number for number, part in enumerate(parts) if any(c in part for c in "*?["))
    picker = Picker(include="/".join(parts[first:]))
    try:
        place = find(tree, "/".join(parts[:first]), follow=True)
    except FileNotFoundError:
        return
    with place:
        if not place.is_dir:
            return
        base, fd = place.path, os.open(place.name or ".", OPEN_DIR, dir_fd=place.fd)
    try:
        for here, prefix, below in directories(f"/proc/self/fd/{fd}/."):
            for entry in os.listdir(here):
                path = os.fsdecode(prefix) + entry
                is_dir = stat.S_ISDIR(os.stat(entry, dir_fd=here, follow_symlinks=False).st_mode)
                if picker.picks(path):
                    yield f"{base}/{path}".strip("/")
                elif is_dir and picker.may_pick_below(path) and len(path) < MOST_PATH_BYTES:
                    below.append(os.fsencode(entry))
    finally:
        os.close(fd)
