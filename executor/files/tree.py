"""Directory trees whose paths never lead out of them.

The content of a tree is hostile: links point anywhere, ``..`` climbs, a directory becomes a link
while we look. So a path is never joined and handed to the kernel. It is walked component by
component over directory descriptors, none of which was reached through a link: links are read and
walked as text, an absolute one begins at the tree's root again, and ``..`` pops a descriptor and
stops at the root. That is what openat2(RESOLVE_IN_ROOT) does too; done here, it also tells the real
path (which ignore patterns need) and can make what is missing on the way [CP-2, CP-6, CP-14].
"""

from __future__ import annotations

import errno
import os
import stat
from operator import itemgetter

from pybuild.executor.zygote.faults import USER, Fault, moved
from pybuild.image.layer.ownership import amended
from pybuild.model.files import as_git_has_it

_PATH_BYTES = 4096  # the kernel's PATH_MAX

from pybuild.image.layer.descent import OPEN_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from pybuild.image.layer.ownership import OwnershipNotes
    from pybuild.model.patterns import PatternMatcher

MAX_LINKS = 255
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What opening a directory says when it is one no longer.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Hidden(FileNotFoundError):
    """A path that is there but hidden by an ignore pattern.

    Attributes:
        path: the real path inside the tree, without a leading slash.
    """

    def __init__(self, path: str) -> None:
        super().__init__(errno.ENOENT, os.strerror(errno.ENOENT), "/" + path)
        self.path = path


class TreePlace:
    """A name in an open directory; the end of a walk. Owns its descriptor.

    Attributes:
        fd: the directory; *name* stands in it, and is ``.`` for the root of the tree.
        path: the real path inside the tree, free of links, without a leading slash.
        status: what is there, links not followed; None when nothing is.
    """

    __slots__ = ("fd", "name", "path", "status")

    def __init__(self, fd: int, name: str, path: str, status: os.stat_result | None) -> None:
        self.fd = fd
        self.name = name
        self.path = path
        self.status = status

    @property
    def is_dir(self) -> bool:
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    def look(self) -> None:
        """Find out again what is there."""
        try:
            self.status = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            self.status = None

    def open_dir(self) -> int:
        """Open the directory that was found here.

        Raises:
            Fault: somebody has put something else in its place meanwhile.
        """
        try:
            return os.open(self.name, OPEN_DIR, dir_fd=self.fd)
        except OSError as error:
            if self.is_dir and error.errno in GONE:
                raise moved(self.path) from error
            raise

    def child(self, name: str) -> TreePlace:
        """Return the place of *name* in this directory, which is left open."""
        place = TreePlace(self.open_dir(), name, f"{self.path}/{name}" if self.path else name, None)
        try:
            place.look()
        except BaseException:
            place.close()
            raise
        return place

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tree:
    """A tree below an open directory, seen through ignore patterns [CP-7].

    Attributes:
        is_local: it is a directory of the client, which others may change while we read.
        matcher: what it hides; None hides nothing. A hidden directory is seen nevertheless when
            something below it is [E204].
        ledger: what is noted about its files, where the file system cannot have their owners.
        git_modes: files have the modes that git would store for them (`model.files`).
        as_it_comes: what changes while it is copied is taken as it was read.
        watch: told of each directory before its names are read, and of each link that is followed.
    """

    def __init__(
        self,
        fd: int,
        exclude: Sequence[str] = (),
        *,
        is_local: bool = False,
        ledger: OwnershipNotes | None = None,
        git_modes: bool = False,
    ) -> None:
        """Take over *fd*."""
        self.fd = fd
        self.ledger = ledger
        self.git_modes = git_modes
        self.is_local = is_local
        self.as_it_comes = False
        self.exclude = tuple(exclude)
        self.matcher: PatternMatcher | None = None
        if exclude:
            from pybuild.model.patterns import PatternMatcher

            self.matcher = PatternMatcher(exclude)
        self._shows: dict[str, bool] = {}
        self.watch: Callable[[str, os.stat_result], None] | None = None

    @classmethod
    def open(
        cls,
        path: str,
        exclude: Sequence[str] = (),
        *,
        is_local: bool = False,
        ledger: OwnershipNotes | None = None,
        git_modes: bool = False,
    ) -> Tree:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return cls(fd, exclude, is_local=is_local, ledger=ledger, git_modes=git_modes)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- paths ------------------------------------------------------------------------------------

    def locate(
        self, path: str, *, follow: bool = True, make: Callable[[int, str, str], None] | None = None
    ) -> TreePlace:
        """Walk to *path* and return where it ends.

        Args:
            follow: whether a link at the end stands for what it points to.
            make: called with a directory, a name and the real path where a directory on the way
                is missing; must make it. Without it that is an error.

        Raises:
            FileNotFoundError: a directory on the way is missing (`Hidden` when ignored); a missing
                last component is no error.
            NotADirectoryError: a file on the way. Fault: user; more than `MAX_LINKS` links.
        """
        fds = [os.dup(self.fd)]
        names: list[str] = []
        pending = _parts(path)
        links = 0
        try:
            while pending:
                part = pending.pop()
                if part == "..":
                    if names:
                        names.pop()
                        os.close(fds.pop())
                    continue
                here = "/".join([*names, part])
                status = self._status(fds[-1], part, here)
                if status is not None and not self._may_pass(here, status):
                    raise Hidden(here)
                if status is None:
                    if not pending:
                        return self._end(fds, part, here, None)
                    if make is None:
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/" + here)
                    make(fds[-1], part, here)
                elif stat.S_ISLNK(status.st_mode) and (pending or follow):
                    links += 1
                    if links > MAX_LINKS:
                        raise Fault(USER, f"too many levels of symbolic links: /{here}")
                    try:
                        target = os.readlink(part, dir_fd=fds[-1])
                    except OSError as error:
                        raise moved(here) from error
                    if self.watch is not None:
                        self.watch(here, status)
                    if target.startswith("/"):
                        names.clear()
                        while len(fds) > 1:
                            os.close(fds.pop())
                    pending += _parts(target)
                    continue
                elif not pending:
                    return self._end(fds, part, here, status)
                is_dir = status is not None and stat.S_ISDIR(status.st_mode)
                fds.append(self._step(fds[-1], part, here, is_dir))
                names.append(part)
            name = names[-1] if names else "."
            if names:
                os.close(fds.pop())
            here = "/".join(names)
            return self._end(fds, name, here, self._status(fds[-1], name, here))
        finally:
            for fd in fds:
                os.close(fd)

    def _status(self, fd: int, name: str, path: str) -> os.stat_result | None:
        try:
            return self.status(fd, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            error.filename = "/" + path
            raise

    def status(self, fd: int, name: str) -> os.stat_result:
        """Return the status of *name* in the directory *fd*, with the notes about it."""
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if self.ledger is not None:
            status = self.ledger.view(fd, name, status)
        return self.seen(status)

    def seen(self, status: os.stat_result) -> os.stat_result:
        """Return a file's status as the tree shows it."""
        if not self.git_modes:
            return status
        mode = as_git_has_it(status.st_mode)
        return status if mode == status.st_mode else amended(status, None, mode=mode)

    def _step(self, fd: int, name: str, path: str, is_dir: bool) -> int:
        try:
            return os.open(name, _STEP, dir_fd=fd)
        except OSError as error:
            if is_dir and error.errno in GONE:
                raise moved(path) from error
            error.filename = "/" + path
            raise

    def _end(
        self, fds: list[int], name: str, path: str, status: os.stat_result | None
    ) -> TreePlace:
        # Whoever follows a link may land on a directory that only its own entries can show.
        if status is not None and path and not self.sees(fds[-1], name, path, status):
            raise Hidden(path)
        return TreePlace(fds.pop(), name, path, status)

    # --- ignore patterns --------------------------------------------------------------------------

    def _may_pass(self, path: str, status: os.stat_result) -> bool:
        matcher = self.matcher
        if matcher is None or not matcher.matches(path):
            return True
        return stat.S_ISDIR(status.st_mode) and not matcher.can_skip_dir(path)

    def sees(self, fd: int, name: str, path: str, status: os.stat_result) -> bool:
        """Return whether *name* in *fd*, at *path*, is part of the tree."""
        matcher = self.matcher
        if matcher is None or not matcher.matches(path):
            return True
        if not stat.S_ISDIR(status.st_mode) or matcher.can_skip_dir(path):
            return False
        shows = self._shows.get(path)
        if shows is None:
            try:
                below = os.open(name, OPEN_DIR, dir_fd=fd)
            except OSError as error:
                if self.is_local and error.errno in GONE:
                    return False  # it went while we looked, as if it had never been
                raise
            try:
                shows = bool(self.entries(below, path, first_only=True))
            finally:
                os.close(below)
            self._shows[path] = shows
        return shows

    def entries(
        self, fd: int, path: str, *, first_only: bool = False
    ) -> list[tuple[str, os.stat_result]]:
        """Return the entries of the directory *fd* at *path*, ignored ones left out, sorted.

        Raises:
            Fault: user; so deep that no program could name it.
        """
        if len(path) > _PATH_BYTES:
            shown = f"{path[:60]}…"
            raise Fault(
                USER,
                f'"/{shown}" is {path.count("/") + 1} directories deep: '
                f"paths of more than {_PATH_BYTES} bytes cannot be copied or mounted",
            )
        if self.watch is not None:
            self.watch(path, os.fstat(fd))
        with os.scandir(fd) as scan:
            entries: list[tuple[str, os.stat_result]] = []
            for entry in scan:
                try:
                    entries.append((entry.name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # it went while we looked, as if it had never been
        if self.ledger is not None:
            view = self.ledger.view
            entries = [(name, view(fd, name, status)) for name, status in entries]
        if self.git_modes:
            entries = [(name, self.seen(status)) for name, status in entries]
        entries.sort(key=itemgetter(0))
        if self.matcher is None:
            return entries
        prefix = path + "/" if path else ""
        seen: list[tuple[str, os.stat_result]] = []
        for name, status in entries:
            if self.sees(fd, name, prefix + name, status):
                seen.append((name, status))
                if first_only:
                    break
        return seen


def _parts(path: str) -> list[str]:
    """Return the components of *path*, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
