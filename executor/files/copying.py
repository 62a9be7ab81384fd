"""Copy between trees: what COPY means once paths are chosen [CP-8..CP-33]."""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.files.aside import Aside
from pybuild.executor.files.attributes import CopiedAttributes
from pybuild.executor.files.content import copy_content
from pybuild.executor.files.hardlinks import HardLinks, inode_of
from pybuild.executor.files.making import IN_THE_WAY, Maker, clear, make_node
from pybuild.executor.files.present import is_same_file, is_same_link
from pybuild.executor.files.selecting import Picker, find
from pybuild.executor.files.tree import GONE
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, moved
from pybuild.image.layer import confined
from pybuild.image.layer.descent import OPEN_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pybuild.executor.files.owners import Ids
    from pybuild.executor.files.selecting import Source
    from pybuild.executor.files.tree import Tree, TreePlace

    T = TypeVar("T")

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Dir:
    """A directory being copied; its counterpart is made when first needed [CP-33]."""

    __slots__ = ("_parent", "name", "path", "replaces", "source", "status", "target")

    def __init__(
        self,
        parent: Dir | None,
        name: str,
        source: int,
        status: os.stat_result,
        target: int = -1,
        path: str = "",
        replaces: bool = False,
    ) -> None:
        self.replaces = replaces
        self._parent = parent
        self.name = name
        self.source = source
        self.status = status
        self.target = target
        self.path = path

    def ensure(self) -> int:
        """Return a descriptor of the counterpart."""
        if self.target < 0:
            assert self._parent is not None
            above = self._parent.ensure()
            try:
                os.mkdir(self.name, 0o700, dir_fd=above)
            except FileExistsError:
                status = os.stat(self.name, dir_fd=above, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    if not self.replaces:
                        raise Fault(
                            USER, f"cannot copy to non-directory: /{self.path}", IN_THE_WAY
                        ) from None
                    os.unlink(self.name, dir_fd=above)
                    os.mkdir(self.name, 0o700, dir_fd=above)
            self.target = os.open(self.name, OPEN_DIR, dir_fd=above)
        return self.target


class Copier:
    """Copies sources of one tree to one destination, by the rules of one COPY.

    Args:
        owner: given to everything copied; None keeps owners, see *keep_owner*.
        keep_owner: False makes everything 0:0 [CP-20].
        mode: octal or symbolic ``--chmod`` [CP-22].
        exclude: patterns relative to each copied source [CP-33].
        mtime_ns: given to everything copied, when not None.
        progress: called with the number of bytes copied so far, now and then.

    Attributes:
        met: paths in the destination where something was that is no directory, replaced or left.
        copied_bytes: so far.
        top: the path there of the directory whose contents were copied last.
        replaces: what is in the way of an entry of another kind goes.
    """

    def __init__(
        self,
        source: Tree,
        dest: Tree,
        *,
        owner: Ids | None = None,
        keep_owner: bool = True,
        mode: int | str | None = None,
        exclude: Sequence[str] = (),
        mtime_ns: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._source = source
        self._attributes = CopiedAttributes(
            owner if owner is not None or keep_owner else (0, 0), mode, mtime_ns, dest.ledger
        )
        self._progress = progress
        self.copied_bytes = 0
        self._reported_bytes = 0
        # Parents get the --chown owner and a numeric --chmod [CP-12]; mkdir(2) knows no set-id bits,
        # and so does the reference.
        made_mode = mode & ~0o6000 if isinstance(mode, int) else 0o755
        self._maker = Maker(dest, mode=made_mode, owner=owner, mtime_ns=mtime_ns)
        self._exclude = tuple(exclude)
        self._picker = Picker(exclude)
        self._dest = dest
        self._links = HardLinks(dest)
        self.met: list[str] = []
        self.top = ""
        self.replaces = False
        self._has_copied = False
        self._aside = Aside()

    def copy(self, source: Source, dest: str, *, contents_only: bool, follow: bool) -> None:
        """Copy one selected path to *dest*; a trailing slash there means a directory [CP-11].

        Raises:
            FileNotFoundError: the source is not there. Fault: user; the destination does not fit.
        """
        with find(self._source, source.path, follow=follow) as place, self._aside:
            into = dest if dest.endswith("/") or not dest else dest.rpartition("/")[0]
            self._maker.directory(into).close()
            with self._maker.locate(dest) as target:
                if place.is_dir and (contents_only or not source.name):
                    if target.status is None:
                        self._maker.make(target.fd, target.name, target.path)
                        target.look()
                    if not target.is_dir:
                        raise Fault(
                            USER, f"cannot copy to non-directory: /{target.path}", IN_THE_WAY
                        )
                    self._contents(place, target)
                elif target.is_dir:
                    with target.child(source.name) as inner:
                        if place.is_dir and inner.is_dir:  # which keeps its owner and mode
                            top = self.top
                            self._contents(place, inner)
                            self.top = top
                        else:
                            self._one(place, inner)
                else:
                    self._one(place, target)
        self._maker.finish()

    def copy_parents(self, root: Source, pattern: str, dest: str) -> bool:
        """Copy what *pattern* picks below *root*, with the directories between [CP-32].

        Returns whether anything was picked; *dest* is made in any case.
        """
        self._picker = Picker(self._exclude, pattern)
        self._has_copied = False
        with find(self._source, root.path, follow=True) as place, self._aside:
            if not place.is_dir:
                raise FileNotFoundError(
                    errno.ENOENT, os.strerror(errno.ENOENT), f"/{root.path}/{pattern}"
                )
            with self._maker.directory(dest) as target:
                self._contents(place, target)
        self._maker.finish()
        return self._has_copied

    # --- entries ----------------------------------------------------------------------------------

    def _contents(self, place: TreePlace, target: TreePlace) -> None:
        """Merge a directory's entries into an existing one [CP-15, CP-16].

        That one keeps its owner and mode, but takes the source's time, as the peer's does.
        """
        source = place.open_dir()
        try:
            into = target.open_dir()
            try:
                assert place.status is not None
                top = Dir(None, "", source, place.status, into, target.path)
                self.top = target.path
                self._links.clear()
                self._entries(top, place.path, "")
                self._attributes.date_contents(into, place.status)
            finally:
                os.close(into)
        finally:
            os.close(source)

    def _one(self, place: TreePlace, target: TreePlace) -> None:
        """Copy a single path to a place that is no directory, or a directory onto another."""
        assert place.status is not None
        holder = Dir(None, "", place.fd, place.status, target.fd, target.path.rpartition("/")[0])
        self._links.clear()
        # The source keeps its own name, the target has another.
        self._entry(holder, place.name, place.status, place.path, "", target.name)

    def _entries(self, node: Dir, path: str, relative: str) -> None:
        prefix = path + "/" if path else ""
        below = relative + "/" if relative else ""
        for name, status in self._source.entries(node.source, path):
            self._entry(node, name, status, prefix + name, below + name, name)

    def _entry(
        self, node: Dir, name: str, status: os.stat_result, path: str, relative: str, new: str
    ) -> None:
        included = self._picker.picks(relative)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            if included or self._picker.may_pick_below(relative):
                self._directory(node, name, status, path, relative, new, included)
            return
        if not included:
            return
        self._has_copied = True
        target = node.ensure()
        where = f"{node.path}/{new}" if node.path else new
        if kind == stat.S_IFREG:
            self._file(node, name, status, path, target, new, where)
        elif kind == stat.S_IFLNK:
            self._symlink(node, name, status, path, target, new, where)
        else:
            self._node(status, target, new, where)

    def _directory(
        self,
        node: Dir,
        name: str,
        status: os.stat_result,
        path: str,
        relative: str,
        new: str,
        included: bool,
    ) -> None:
        try:
            source = os.open(name, OPEN_DIR, dir_fd=node.source)
        except OSError as error:
            self._gone(path, error)
            return
        path_there = f"{node.path}/{new}" if node.path else new
        inner = Dir(node, new, source, status, path=path_there, replaces=self.replaces)
        try:
            if included:
                self._has_copied = True
                inner.ensure()
            self._entries(inner, path, relative)
            if inner.target >= 0:
                self._attributes.give(inner.path, source, inner.target, status)
        finally:
            os.close(source)
            if inner.target >= 0:
                os.close(inner.target)

    def _file(
        self,
        node: Dir,
        name: str,
        status: os.stat_result,
        path: str,
        target: int,
        new: str,
        where: str,
    ) -> None:
        linked = inode_of(status)
        if linked is not None and self._links.link(
            linked, target, new, lambda make: self._fresh(target, new, where, make)
        ):
            return
        try:
            source = os.open(name, _READ, dir_fd=node.source)
        except OSError as error:
            self._gone(path, error)
            return
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                self._gone(path)
                return
            out = self._fresh(
                target,
                new,
                where,
                lambda: os.open(new, _CREATE, 0o600, dir_fd=target),
                lambda there: is_same_file(
                    source, before.st_size, target, new, there, self._attributes.look(status)
                ),
            )
            if out is None:
                self._links.note(linked, target, new, where, is_left=True)
                return

            def end(source: int, out: int, copied: int) -> None:
                is_still = copied == before.st_size and not self._is_changed(
                    before, os.fstat(source)
                )
                if not (is_still or self._source.as_it_comes):
                    raise moved(path)
                self._attributes.give(where, source, out, status)
                self._tell(before.st_size)

            try:
                if linked is not None or not self._aside.take(source, out, before, where, end):
                    end(source, out, copy_content(source, out, before))
            except OSError as error:
                if error.filename is None:
                    error.filename = "/" + where
                raise
            finally:
                os.close(out)
        finally:
            os.close(source)
        self._links.note(linked, target, new, where)

    def _symlink(
        self,
        node: Dir,
        name: str,
        status: os.stat_result,
        path: str,
        target: int,
        new: str,
        where: str,
    ) -> None:
        try:
            text = os.readlink(name, dir_fd=node.source)
        except OSError as error:
            self._gone(path, error)
            return
        look = self._attributes.look(status)

        def make() -> bool:
            os.symlink(text, new, dir_fd=target)
            return True

        if not self._fresh(
            target, new, where, make, lambda there: is_same_link(text, target, new, there, look)
        ):
            return
        self._attributes.give_name(where, target, new, status)

    def _node(self, status: os.stat_result, target: int, new: str, where: str) -> None:
        """Make a device or FIFO; a socket becomes an empty file [CP-23]."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFSOCK:
            kind = stat.S_IFREG
        device = status.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        if kind == stat.S_IFCHR and device == 0:
            # In an upper directory that would hide what lies below.
            raise Fault(USER, f"cannot copy the character device 0:0 to /{where}")
        try:
            self._fresh(
                target,
                new,
                where,
                lambda: make_node(target, new, kind | 0o600, device, ledger=self._dest.ledger),
            )
        except PermissionError as error:
            raise Fault(
                ENVIRONMENT,
                f"cannot make the device /{where}: {(error.strerror or '').lower()}",
                ("only a build as root can make devices",),
            ) from error
        self._attributes.give_name(where, target, new, status)

    def _fresh(
        self,
        target: int,
        new: str,
        where: str,
        make: Callable[[], T],
        is_same: Callable[[os.stat_result], bool] | None = None,
    ) -> T | None:
        """Call *make*, in the place of what is there; None: that was the same and is left alone."""
        try:
            return make()
        except FileExistsError:
            pass
        self.met.append(where)
        if is_same is not None and is_same(self._dest.status(target, new)):
            return None
        if self.replaces:
            confined.remove(target, os.fsencode(new))
        else:
            clear(target, new, where)
        return make()

    # --- the source and its changes ---------------------------------------------------------------

    def _tell(self, size: int) -> None:
        self.copied_bytes += size
        if self._progress is not None and self.copied_bytes - self._reported_bytes > 16 << 20:
            self._reported_bytes = self.copied_bytes
            self._progress(self.copied_bytes)

    def _is_changed(self, before: os.stat_result, after: os.stat_result) -> bool:
        """A file of a snapshot can only be linked: where nothing may mount, other steps do that."""
        return _stamp(before) != _stamp(after) or (
            self._source.is_local and before.st_ctime_ns != after.st_ctime_ns
        )

    def _gone(self, path: str, error: OSError | None = None) -> None:
        """Pass over what was listed and has gone, or given its name to something else.

        Raises:
            Fault: it may not, or it cannot be read. OSError: another matter.
        """
        if error is not None and error.errno not in (*GONE, errno.ENXIO, errno.EINVAL):
            if error.errno in (errno.EACCES, errno.EMFILE, errno.EPERM):
                reason = (error.strerror or "").lower()
                raise Fault(ENVIRONMENT, f'cannot read "/{path}": {reason}') from error
            error.filename = "/" + path
            raise error
        if not self._source.as_it_comes:
            raise moved(path) from error


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino
