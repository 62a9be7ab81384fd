"""The bytes of a tree's files as they count: digests of files, some of which change meanwhile.

Lean: used in the main process for directories of the client, and in workers for snapshots.
"""

from __future__ import annotations

import _thread
import errno
import os
import stat
from _queue import SimpleQueue

from pybuild.executor.files.content import BUFFER_BYTES, counted_xattrs
from pybuild.executor.files.tree import GONE
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, moved
from pybuild.model.files import body_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, TypeVar

    from pybuild.executor.trees.seen import Seen
    from pybuild.executor.trees.treefiles import Listed
    from pybuild.model.files import FileIndex

    T = TypeVar("T")
    # What the file was when it was read, the digest of that, and whether it is all of the file.
    Read = tuple[os.stat_result, bytes, bool]

UNREADABLE_HINT = "exclude it in .dockerignore, or make it readable"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TRIES = 3
_LARGE_BYTES = 1 << 20  # worth a hand-over between threads
_MOST_THREADS = 4


def for_each(work: Callable[[T], None], items: Sequence[T]) -> None:
    """Call *work* for each item, in this thread and, as there are processors, in others.

    What takes long there is C that lets go of the interpreter.

    Args:
        work: called in no order to rely on; must not raise.
    """
    rest = iter(items)  # next() of it is one step of the interpreter
    ended: SimpleQueue[None] = SimpleQueue()

    def help_out() -> None:
        try:
            for item in rest:
                work(item)
        finally:
            ended.put(None)

    helpers = 0
    try:
        while helpers < min(_MOST_THREADS, len(os.sched_getaffinity(0)), len(items)) - 1:
            _thread.start_new_thread(help_out, ())
            helpers += 1
    except RuntimeError:
        pass  # as many threads as this user may have
    try:
        for item in rest:
            work(item)
    finally:
        for _ in range(helpers):
            ended.get()


class FileGone(Exception):
    """Something that was listed is not there any more."""


class FileReader:
    """Digests files by name in an open directory.

    Args:
        index: knows which need not be read.
        seen: told of files that change while they are read, which are an error otherwise.
        is_local: the directory is the client's, who may change it.
    """

    def __init__(self, index: FileIndex | None, seen: Seen | None, *, is_local: bool) -> None:
        self._is_local = is_local
        self._index = index
        self._seen = seen
        self._read_ahead: dict[str, Read | Exception] = {}

    def read_large(self, fd: int, above: str, listed: Listed) -> None:
        """Read the large files among *listed* that must be, several at once, for `read`."""
        large: dict[tuple[int, int], tuple[str, str]] = {}
        for name, status in listed:
            if status.st_size < _LARGE_BYTES or not stat.S_ISREG(status.st_mode):
                continue
            if self._index is None or self._index.get(status) is None:
                # Of two names of a file the second finds what the first has left in the index.
                large.setdefault((status.st_dev, status.st_ino), (name, above + name))
        if len(large) < 2:
            return

        def read(item: tuple[str, str]) -> None:
            name, path = item
            try:
                self._read_ahead[path] = self._digest(fd, name, path)
            except Exception as error:  # noqa: BLE001 - raised when it is this file's turn
                self._read_ahead[path] = error

        for_each(read, list(large.values()))

    def read(self, fd: int, name: str, path: str) -> Read:
        """Digest the file *name* in the directory *fd*, at *path* in its tree.

        Raises:
            FileGone: it is not there. Fault: it cannot be read, or changes and must not.
        """
        ahead = self._read_ahead.pop(path, None)
        if isinstance(ahead, Exception):
            raise ahead
        return ahead or self._digest(fd, name, path)

    def _digest(self, fd: int, name: str, path: str) -> Read:
        read: Read | None = None
        for _ in range(_TRIES):
            try:
                file = os.open(name, _READ, dir_fd=fd)
            except OSError as error:
                self.gone(path, error)
            try:
                before = os.fstat(file)
                if not stat.S_ISREG(before.st_mode):
                    self.gone(path)
                state = body_state(counted_xattrs(file))
                size = 0
                # A file that grows as fast as it is read has no end.
                while size <= before.st_size and (data := os.read(file, BUFFER_BYTES)):
                    size += len(data)
                    state.update(data)
                after = os.fstat(file)
            finally:
                os.close(file)
            is_same = stamp(before, is_local=self._is_local) == stamp(
                after, is_local=self._is_local
            )
            is_whole = size == before.st_size and is_same
            read = before, state.digest(), is_whole
            if is_whole:
                return read
        if self._seen is None or read is None:
            raise moved(path)
        self._seen.moved = path
        return read

    def gone(self, path: str, error: OSError | None = None) -> NoReturn:
        """Leave out what has gone, or given its name to something else.

        Raises:
            FileGone: nothing is there. Fault: it cannot be read, or changes and must not.
        """
        if error is not None and error.errno not in (*GONE, errno.ENXIO, errno.EINVAL):
            raise unreadable(path, error) from error
        if self._seen is None:
            raise moved(path) from error
        self._seen.moved = path
        raise FileGone from error


def stamp(status: os.stat_result, *, is_local: bool = True) -> tuple[int, int, int, int]:
    """Return the values by which a change of a file is seen.

    A file of a snapshot can only be linked: where nothing may mount, other steps do that.
    """
    changed_ns = status.st_ctime_ns if is_local else 0
    return status.st_size, status.st_mtime_ns, changed_ns, status.st_ino


def unreadable(path: str, error: OSError) -> Fault:
    """Return the fault for something of a tree that cannot be opened."""
    if error.errno in (*GONE, errno.ENXIO):
        return moved(path)
    reason = (error.strerror or str(error)).lower()
    kind = USER if error.errno == errno.EACCES else ENVIRONMENT
    hints = (UNREADABLE_HINT,) if kind == USER else ()
    return Fault(kind, f'cannot read "/{path}": {reason}', hints)
