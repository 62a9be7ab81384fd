"""The file actions that copy nothing: directories, files, links, removals."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.making import IN_THE_WAY, Maker, give
from pybuild.executor.files.selecting import select
from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer import confined
from pybuild.image.layer.writing import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.owners import Ids
    from pybuild.executor.files.tree import Tree, TreePlace


def mkdir(
    tree: Tree, path: str, *, mode: int, parents: bool, owner: Ids | None, mtime_ns: int | None
) -> None:
    """Make a directory; one that is there stays as it is [WD-1].

    Raises:
        Fault: user; a file is in the way, or a parent is missing and *parents* is not set.
    """
    maker = Maker(tree, mode=mode, owner=owner, mtime_ns=mtime_ns)
    try:
        place = tree.locate(path, make=maker.make if parents else None)
    except NotADirectoryError as error:
        raise Fault(USER, f"mkdir {path}: not a directory: {error.filename}", IN_THE_WAY) from error
    except FileNotFoundError as error:
        raise Fault(USER, f"mkdir {path}: {error.filename} does not exist") from error
    with place:
        if place.status is None:
            maker.make(place.fd, place.name, place.path)
        elif not place.is_dir:
            raise Fault(USER, f"mkdir {path}: not a directory: /{place.path}", IN_THE_WAY)
    maker.finish()


def need_parent(tree: Tree, path: str) -> None:
    """Refuse to write to *path* when the directory that it is in is not there.

    Raises:
        Fault: user.
    """
    parent = path.rstrip("/").rpartition("/")[0]
    try:
        place = tree.locate(parent)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Fault(USER, f"{path}: no such file or directory: {parent}") from error
    with place:
        if not place.is_dir:
            raise Fault(USER, f"{path}: no such file or directory: {parent}")


def mkfile(
    tree: Tree,
    path: str,
    data: bytes,
    *,
    mode: int,
    parents: bool,
    owner: Ids | None,
    mtime_ns: int | None,
) -> None:
    """Write a file; one that stands there keeps its mode and owner, a directory is not replaced.

    Raises:
        Fault: user; a directory is in the way, a parent is none, or is missing and *parents* is not set.
    """
    maker = Maker(tree, owner=owner, mtime_ns=mtime_ns)
    with maker.locate(path) if parents else _beside(tree, path) as place:
        if place.is_dir:
            raise Fault(USER, f"cannot replace to directory /{place.path} with file")
        if place.status is not None:
            if stat.S_ISREG(place.status.st_mode):  # rewritten, as BuildKit does
                mode = stat.S_IMODE(place.status.st_mode)
                owner = owner or (place.status.st_uid, place.status.st_gid)
            os.unlink(place.name, dir_fd=place.fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(place.name, flags, 0o600, dir_fd=place.fd)
        try:
            write_all(fd, data)
            if owner is not None:
                give(place.path, fd, owner, ledger=tree.ledger)
            os.fchmod(fd, mode)
            if mtime_ns is not None:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)
    maker.finish()


def _beside(tree: Tree, path: str) -> TreePlace:
    """Return where *path* leads to, whose directory has to be there.

    Raises:
        Fault: user.
    """
    try:
        return tree.locate(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Fault(USER, f"{path}: no such file or directory: {error.filename}") from error


def symlink(tree: Tree, path: str, target: str, *, owner: Ids | None, mtime_ns: int | None) -> None:
    """Make a symbolic link.

    Raises:
        Fault: user; something stands there already, or the directory that it is to be in does not.
    """
    maker = Maker(tree, owner=owner, mtime_ns=mtime_ns)
    head, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        raise Fault(USER, f"symlink {target} {path or '/'}: not a name for a link")
    need_parent(tree, path)  # as BuildKit does: of all file ops this one makes none
    with maker.directory(head) as parent, parent.child(name) as place:
        if place.status is not None:
            raise Fault(USER, f"symlink {target} /{place.path}: file exists")
        os.symlink(target, name, dir_fd=place.fd)
        if owner is not None:
            give(place.path, place.fd, owner, name, ledger=tree.ledger)
        if mtime_ns is not None:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=place.fd, follow_symlinks=False)
    maker.finish()


def remove(tree: Tree, path: str, *, wildcard: bool, allow_not_found: bool) -> None:
    """Remove a path and all below it; links on the way are followed, one at the end is not.

    Raises:
        Fault: user; it is not there, lies below a file, or is the root.
    """
    for source in select(tree, path, wildcard=wildcard):
        try:
            place = tree.locate(source.path, follow=False)
        except FileNotFoundError as error:
            if allow_not_found:
                continue
            raise Fault(USER, f"remove /{source.path}: no such file or directory") from error
        except NotADirectoryError as error:
            raise Fault(USER, f"remove /{source.path}: not a directory") from error
        with place:
            if not place.path:
                raise Fault(USER, "cannot remove the root of a file tree")
            if place.status is not None:
                confined.remove(place.fd, os.fsencode(place.name))
            elif not allow_not_found:
                raise Fault(USER, f"remove /{place.path}: no such file or directory")
