"""The files that a build reads by name before it knows a step: its Dockerfile and the ignore files.

Who wrote the context may have put anything in their places. So a name inside the context is walked
over descriptors, and links lead nowhere outside, as for the reference, which reads what it was sent.
A file that the user names elsewhere is the user's own word: its links are followed, and a pipe is
read. All else is a regular file, or refused before it is opened: a planted pipe would be waited for,
a device may never end.
"""

from __future__ import annotations

import os
import stat

from pybuild.cache.disk.plainfile import NotPlain, plain
from pybuild.executor.files.tree import Tree, TreePlace
from pybuild.executor.zygote.faults import Fault
from pybuild.model.errors import UserError

DOCKERFILES = ("Dockerfile", "dockerfile", "Containerfile")
IGNORE, IGNORE_FILES = ".dockerignore", (".dockerignore", ".containerignore")
"""The names that are looked for when none is given, the first that exists; never two of them merged."""
MAX_DOCKERFILE_BYTES = 64 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_REGULAR = "put a regular file in its place, or name another one with -f"
_LEADS_OUT = "links are followed inside the context only; copy the file there, or name it with -f"


def inside(context: str, path: str) -> str | None:
    """Return *path* relative to the directory *context*; None where it is not written as part of it."""
    here = os.path.abspath(path)
    for root in (os.path.abspath(context), os.path.realpath(context)):
        start = root.rstrip("/") + "/"
        if here.startswith(start):
            return here[len(start) :]
    return None


def read_named(path: str, context: str | None, failed: str) -> bytes | None:
    """Return the bytes of the file at *path*; None where there is nothing, not even a link.

    Args:
        context: the directory whose links must not lead out of it; None: there is none.
        failed: begins every message.

    Raises:
        UserError: it leads out of the context, is no regular file, too large or unreadable.
    """
    name = None if context is None else inside(context, path)
    try:
        if context is None or name is None:
            fd = _open_own(path, failed)
        else:
            fd = _open_inside(context, name, failed)
        if fd is None:
            return None
        with os.fdopen(fd, "rb") as file:
            size = os.fstat(fd).st_size
            data = file.read(MAX_DOCKERFILE_BYTES + 1) if size <= MAX_DOCKERFILE_BYTES else None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{failed}: open {path}: {reason}", hints=[_REGULAR]) from error
    if data is None or len(data) > MAX_DOCKERFILE_BYTES:
        message = f"{failed}: {path}: larger than {MAX_DOCKERFILE_BYTES >> 20} MiB"
        raise UserError(message, hints=[_REGULAR])
    return data


def real_path(path: str, context: str) -> str:
    """Return the path, free of links, of a file that `read_named` reads."""
    name = inside(context, path)
    if name is None:
        return os.path.realpath(path)
    root = os.path.realpath(context)
    with Tree.open(root) as tree, tree.locate(name) as place:
        return os.path.join(root, place.path)


def is_linked(path: str, context: str | None) -> bool:
    """Return whether *path* is a link, or passes one inside the directory *context*."""
    name = None if context is None else inside(context, path)
    if context is None or name is None:
        return os.path.islink(path)
    with Tree.open(context) as tree:
        return _passes_link(tree, name)


def _open_own(path: str, failed: str) -> int | None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            raise UserError(f"{failed}: {path}: a link to nothing", hints=[_REGULAR]) from None
        return None
    flags = os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC
    if stat.S_ISFIFO(mode):  # ``-f <(…)``
        return os.open(path, flags)
    _check_kind(mode, path, failed)
    try:
        return plain(path, flags)
    except NotPlain:
        raise UserError(f"{failed}: {path} is no regular file", hints=[_REGULAR]) from None


def _open_inside(context: str, name: str, failed: str) -> int | None:
    with Tree.open(context) as tree:
        place = _located(tree, name, failed)
        if place is None:
            return None
        with place:
            assert place.status is not None
            _check_kind(place.status.st_mode, name, failed)
            fd = os.open(place.name, _READ, dir_fd=place.fd)
    try:
        _check_kind(os.fstat(fd).st_mode, name, failed)  # or it was traded meanwhile
    except BaseException:
        os.close(fd)
        raise
    return fd


def _located(tree: Tree, name: str, failed: str) -> TreePlace | None:
    try:
        place = tree.locate(name)
    except FileNotFoundError:
        place = None
    except Fault as fault:
        raise UserError(f"{failed}: {fault.message}", hints=[_LEADS_OUT]) from fault
    if place is not None and place.status is not None:
        return place
    if place is not None:
        place.close()
    if _passes_link(tree, name):
        message = f"{failed}: {name} is or passes a link to nothing inside the context"
        raise UserError(message, hints=[_LEADS_OUT])
    return None


def _passes_link(tree: Tree, name: str) -> bool:
    """Return whether a part of *name* is a link."""
    parts = name.split("/")
    for count in range(1, len(parts) + 1):
        try:
            with tree.locate("/".join(parts[:count]), follow=False) as place:
                if place.status is None:
                    return False
                if stat.S_ISLNK(place.status.st_mode):
                    return True
        except (OSError, Fault):
            return False
    return False


def _check_kind(mode: int, shown: str, failed: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        hint = f"name the file in it: -f {shown}/Dockerfile" if stat.S_ISDIR(mode) else _REGULAR
        raise UserError(f"{failed}: {shown} is {kind}, not a regular file", hints=[hint])
