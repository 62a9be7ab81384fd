"""Paths inside a root that may be hostile: every link is resolved inside that root.

The kernel does it (openat2, RESOLVE_IN_ROOT) wherever something is to be opened. `locate` does the
same in steps for paths that are partly missing, to say where their missing part has to go.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote import syscalls

_IN_ROOT = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_NO_LINKS = _IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS
_MAX_LINKS = 40


def open_in(root_fd: int, path: str, flags: int = os.O_PATH, *, links: bool = True) -> int:
    """Open *path* inside the root; *links* off refuses symbolic links (ELOOP)."""
    return syscalls.openat2(root_fd, path, flags, _IN_ROOT if links else _NO_LINKS)


def exists(root_fd: int, path: str) -> bool:
    try:
        os.close(open_in(root_fd, path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    return True


def read_file(root_fd: int, path: str, limit: int) -> bytes | None:
    """Return a regular file's content, at most *limit* bytes; None when there is none.

    Raises:
        OSError: EFBIG, it is larger; EINVAL, it is no regular file.
    """
    try:
        fd = open_in(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        pieces: list[bytes] = []
        size = 0
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
        return b"".join(pieces)
    finally:
        os.close(fd)


def locate(root_fd: int, path: str) -> tuple[list[str], int]:
    """Return the components of *path* without links, and how many of the last are missing.

    A dangling link is followed to where it would lead, as far as that exists.

    Raises:
        OSError: ENOTDIR, something on the way is no directory; ELOOP.
    """
    todo = path.split("/")[::-1]
    real: list[str] = []
    missing = 0
    links = 0
    while todo:
        part = todo.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if real:
                real.pop()
                missing = max(0, missing - 1)
            continue
        if missing:
            real.append(part)
            missing += 1
            continue
        kind, link = _look(root_fd, "/".join([*real, part]))
        if link:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if link.startswith("/"):
                real = []
            todo.extend(reversed(link.split("/")))
            continue
        real.append(part)
        if kind == 0:
            missing = 1
        elif not stat.S_ISDIR(kind) and any(p not in ("", ".") for p in todo):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "/" + "/".join(real))
    return real, missing


def _look(root_fd: int, path: str) -> tuple[int, str]:
    """Return ``(mode, link target)`` of the last component itself; mode 0: nothing is there."""
    try:
        fd = open_in(root_fd, path, os.O_PATH | os.O_NOFOLLOW, links=False)
    except FileNotFoundError:
        return 0, ""
    try:
        mode = os.fstat(fd).st_mode
        return mode, os.readlink("", dir_fd=fd) if stat.S_ISLNK(mode) else ""
    finally:
        os.close(fd)


def make_missing(root_fd: int, path: str, *, directory: bool) -> None:
    """Create *path* inside the root, a file or a directory, with its missing parents (0755)."""
    real, missing = locate(root_fd, path)
    if not missing:
        return
    first = len(real) - missing
    at = open_in(root_fd, "/".join(real[:first]) or ".", os.O_PATH | os.O_DIRECTORY, links=False)
    try:
        for index in range(first, len(real)):
            name = real[index]
            if directory or index < len(real) - 1:
                try:
                    os.mkdir(name, 0o755, dir_fd=at)
                except FileExistsError:
                    pass  # Another step uses the same cache mount; O_NOFOLLOW below judges it.
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                deeper = os.open(name, flags, dir_fd=at)
                os.close(at)
                at = deeper
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                os.close(os.open(name, flags, 0o644, dir_fd=at))
    finally:
        os.close(at)
