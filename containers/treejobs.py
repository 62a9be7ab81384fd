"""Worker functions on a container's file tree: what it changed, and files out of it and into it.

A path of a container is looked up with the container's tree as our root directory, so that no link in it,
also one that is put there meanwhile, leads out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from pybuild.executor.files.apply import Mounts
from pybuild.executor.zygote import confined, syscalls, users
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault
from pybuild.image.layer.overlayfs import is_overlay, is_whiteout
from pybuild.model.border import NamedTuple
from pybuild.model.lightlib import contextmanager
from pybuild.model.tarplaces import NoPlace, TarPlace, extract, extract_into, place_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from pybuild.model.border import WorkerCall

_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContainerTree(NamedTuple):
    """The file tree of a container, for a worker.

    Attributes:
        name: of the container, for messages.
        lowers: the directories of its layers, base first; *upper* is what it wrote.
        scratch: a directory beside *upper* with ``work`` and ``upper``, both empty.
        mount_dir: an empty directory that may be mounted on.
        volumes: a directory, what of it is mounted, where that is in the tree, and whether it can only
            be read; outer ones first;
            of one that does not run.
        runs: it runs, and its root directory is the last of the descriptors handed over.
    """

    name: str
    lowers: tuple[str, ...]
    upper: str
    mount_dir: str
    scratch: str = ""
    volumes: tuple[tuple[str, str, str, bool], ...] = ()
    runs: bool = False


def changes(call: WorkerCall, tree: ContainerTree) -> list[tuple[str, str]]:
    """Return the changes of a container: ``A``, ``C`` or ``D`` and the path, in the order of paths [CTR-87]."""
    with Mounts(tree.mount_dir) as mounts:
        below = mounts.overlay(tree.lowers) if tree.lowers else tree.mount_dir
        base = os.open(below, _STEP)
        fd = os.open(tree.upper, _STEP)
        try:
            listed: list[tuple[str, str]] = []
            _compare(fd, base, "", listed)
            return listed
        finally:
            os.close(fd)
            os.close(base)


def _compare(fd: int, base: int, path: str, listed: list[tuple[str, str]]) -> None:
    """List the changes in one directory; *base* is the one that it lies on, -1: there is none."""
    noted = is_overlay(fd)
    with os.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        before = _status(base, name)
        if is_whiteout(status, fd, name, noted=noted):
            if before is not None:
                listed.append(("D", f"{path}/{name}"))
            continue
        listed.append(("A" if before is None else "C", f"{path}/{name}"))
        if stat.S_ISDIR(status.st_mode):
            inner = os.open(name, _STEP, dir_fd=fd)
            lies_on_one = before is not None and stat.S_ISDIR(before.st_mode)
            under = os.open(name, _STEP, dir_fd=base) if lies_on_one else -1
            try:
                _compare(inner, under, f"{path}/{name}", listed)
            finally:
                os.close(inner)
                if under >= 0:
                    os.close(under)


def _status(fd: int, name: str) -> os.stat_result | None:
    if fd < 0:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def read(call: WorkerCall, tree: ContainerTree, path: str, *, follow: bool) -> None:
    """Write a tar of *path* to the first descriptor: its last name, and what is in it [CTR-85].

    Args:
        follow: a link at its end is followed; one with a slash behind it always is.

    Raises:
        Fault: user; there is nothing.
    """
    out = os.fdopen(os.dup(call.fds[0]), "wb")
    _enter(call, tree, writes=False)
    shown, path = path, "/" + path.strip("/")
    if shown.endswith(("/", "/.")) or follow:
        path = os.path.realpath(path)
    name = os.path.basename(path)
    with _finding(tree, shown):
        os.chdir(os.path.dirname(path) or "/")
        status = os.lstat(name or "/")
    _see_a_directory(shown, status)
    # The first member says what was asked for; of the root, and of what is in a directory, there is no name.
    last = "." if shown.endswith("/.") else os.path.basename(os.path.normpath(shown))
    try:
        with out, tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(name or "/", arcname=last or name or ".")
    except FileNotFoundError as error:  # it went meanwhile, or is a link that is each process's own
        raise Fault(USER, f"Could not find the file {shown} in container {tree.name}") from error


def write(call: WorkerCall, tree: ContainerTree, path: str, *, into: bool) -> None:
    """Put the tar of the first descriptor at *path* as ``cp`` does; *into*: what is in it, below *path*.

    Raises:
        Fault: user; there is no place for it.
    """
    source = os.fdopen(os.dup(call.fds[0]), "rb")
    os.umask(0)
    _enter(call, tree, writes=True)
    os.chdir("/")
    try:
        with source, tarfile.open(fileobj=source, mode="r|") as archive:
            first = archive.next()
            if first is None:
                return
            place = TarPlace(path or "/", "") if into else place_for(path or "/", first)
            extract(archive, first, place, owners=True)
    except NoPlace as error:
        raise Fault(USER, str(error)) from error
    except FileNotFoundError as error:
        raise Fault(USER, f"Could not find the file {path} in container {tree.name}") from error
    except tarfile.TarError as error:
        raise Fault(USER, f"the archive cannot be read: {error}") from error
    except OSError as error:
        raise _unwritten(error) from error


class PathFacts(NamedTuple):
    """A path of a container, as ``stat`` has it; *target* is where a link leads to, "" for what is none."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    target: str = ""


def look(call: WorkerCall, tree: ContainerTree, path: str) -> PathFacts:
    """Return the facts about a path; of a link about itself, unless a slash is behind it [CTR-85].

    Raises:
        Fault: user; there is nothing.
    """
    _enter(call, tree, writes=False)
    plain = "/" + path.strip("/")
    with _finding(tree, path):
        if path.endswith(("/", "/.")):
            plain = os.path.realpath(plain)
        status = os.lstat(plain)
        if stat.S_ISLNK(status.st_mode):
            os.readlink(plain)
    _see_a_directory(path, status)
    target = os.path.realpath(plain) if stat.S_ISLNK(status.st_mode) else ""
    name = os.path.basename(os.path.normpath(path)) or "/"
    return PathFacts(name, status.st_size, status.st_mode, status.st_mtime_ns, target)


@contextmanager
def _finding(tree: ContainerTree, path: str) -> Generator[None]:
    """Say for the block that a path is not there, if the kernel cannot get to it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise
        raise Fault(USER, f"Could not find the file {path} in container {tree.name}") from error


def _see_a_directory(path: str, status: os.stat_result) -> None:
    """Refuse a file that was named as a directory is, with a slash at the end."""
    if path.endswith(("/", "/.")) and not stat.S_ISDIR(status.st_mode):
        raise Fault(USER, f"{path}: not a directory")


def unpack(
    call: WorkerCall, tree: ContainerTree, path: str, *, keeps_kinds: bool, user: str = ""
) -> None:
    """Write the tar of the first descriptor into the directory *path* [CTR-86].

    Args:
        keeps_kinds: a file never takes the place of a directory, nor the other way round.
        user: whose all of it becomes, "": those whom the archive names.

    Raises:
        Fault: user; there is no such directory, or user, or the archive is none.
    """
    source = os.fdopen(os.dup(call.fds[0]), "rb")
    os.umask(0)
    _enter(call, tree, writes=True)
    os.chdir("/")
    top = os.path.realpath("/" + path.strip("/"))
    if not os.path.lexists(top):
        raise Fault(USER, f"Could not find the file {path} in container {tree.name}")
    if not os.path.isdir(top):
        raise Fault(USER, "extraction point is not a directory")
    try:
        with source, tarfile.open(fileobj=source, mode="r|") as archive:
            owner = _ids(user) if user else None
            extract_into(archive, top, replaces=not keeps_kinds, owner=owner)
    except NoPlace as error:
        raise Fault(USER, str(error)) from error
    except tarfile.TarError as error:
        if str(error) != "empty file":
            raise Fault(USER, f"the archive cannot be read: {error}") from error
    except OSError as error:
        raise _unwritten(error) from error


def _ids(user: str) -> tuple[int, int]:
    """Return the ids of a user of the tree that is our root directory."""
    fd = os.open("/", _STEP)
    try:
        known = users.resolve(fd, user)
    finally:
        os.close(fd)
    return known.uid, known.gid


def _unwritten(error: OSError) -> Exception:
    """Return the fault of what cannot be written: that of the user, where a mount can only be read."""
    if error.errno == errno.EROFS:
        return Fault(USER, "container rootfs or mounted volume is marked read-only")
    return error


def _enter(call: WorkerCall, tree: ContainerTree, *, writes: bool) -> None:
    """Make the container's tree our root directory.

    Raises:
        Fault: environment; nothing can be mounted here.
    """
    _ask_for_no_names()
    if tree.runs:
        os.fchdir(call.fds[-1])
        os.chroot(".")
        return
    if not overlay_works_in(tree.upper):
        raise Fault(
            ENVIRONMENT,
            "files of a container that does not run cannot be reached where nothing can be mounted",
            ("pybuild doctor shows how containers are isolated, and why",),
        )
    mounts = Mounts(tree.mount_dir)  # what is mounted goes with this process
    if writes:
        root = mounts.overlay(tree.lowers, tree.upper, f"{tree.scratch}/work")
    else:  # places for volumes are made where they do not last
        lowers = (*tree.lowers, tree.upper)
        root = mounts.overlay(lowers, f"{tree.scratch}/upper", f"{tree.scratch}/work")
    trees = [
        (_clone(source, inside, readonly), target)
        for source, inside, target, readonly in tree.volumes
    ]
    os.chroot(root)
    os.chdir("/")
    for fd, target in trees:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not confined.exists(root_fd, target):
            confined.make_missing(root_fd, target, directory=is_directory)
        place = confined.open_in(root_fd, target)
        syscalls.move_mount(fd, place)
        syscalls.close_quietly(place, root_fd, fd)


def _ask_for_no_names() -> None:
    """Have tarfile write ids alone: the C library would load what the container's nsswitch.conf names.

    That would be a library of the container's, run with all that we may do.
    """
    for name in ("pwd", "grp"):
        setattr(tarfile, name, None)  # as where Python has no such module


def _clone(source: str, inside: str, readonly: bool) -> int:
    """Return a mount of *inside*, looked up in *source*; of a file there is nothing inside."""
    base = os.open(source, os.O_PATH | os.O_CLOEXEC)
    try:
        inner = inside.strip("/")
        chosen = confined.open_in(base, inner) if inner else os.dup(base)
        try:
            fd = syscalls.open_tree(chosen, "", syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE)
            if readonly:
                syscalls.mount_setattr(fd, syscalls.MOUNT_ATTR_RDONLY, recursive=True)
            return fd
        finally:
            os.close(chosen)
    finally:
        os.close(base)
