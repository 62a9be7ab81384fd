"""A directory of somebody's that a result goes into, open from when it was looked at.

Looking at a path and writing to it later are two things: in between, a build's length, another user
may put a link in the way. So it is walked once, over descriptors, by the rules of
`cache.disk.ownership`, and what is written then is written through the descriptor.
"""

from __future__ import annotations

import os
from stat import S_ISLNK

from pybuild.cache.disk.ownership import is_trusted, owner

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40


def open_output(dest: str, *, make: bool = False) -> int:
    """Return a descriptor of the directory *dest*; links of untrusted users lead nowhere.

    Args:
        make: it and those above it are made where they are missing.

    Raises:
        UsageError: such a link. OSError: it cannot be opened or made.
    """
    fd = os.open("/", _LOOK)
    done, links = "/", 0
    waiting = os.path.abspath(dest).split("/")[:0:-1]
    try:
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            inner = _step(fd, name, make)
            try:
                done = os.path.join(done, name)
                status = os.fstat(inner)
                if not S_ISLNK(status.st_mode):
                    fd, inner = inner, fd
                    continue
                links += 1
                if not is_trusted(status.st_uid) or links > _MOST_LINKS:
                    raise _redirected(dest, f"{done} is a link of {owner(status.st_uid)}")
                target = os.readlink("", dir_fd=inner)
            finally:
                os.close(inner)
            done = os.path.dirname(done)
            if target.startswith("/"):
                os.close(fd)
                fd, done = os.open("/", _LOOK), "/"
            waiting += target.split("/")[::-1]
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def make_output(dest: str) -> int:
    """Return a descriptor of the directory *dest*, made if it is missing; raises as `open_output`."""
    return open_output(dest, make=True)


def _step(fd: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _LOOK, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, dir_fd=fd)
    except FileExistsError:
        pass
    return os.open(name, _LOOK, dir_fd=fd)


def _redirected(dest: str, why: str) -> Exception:
    from pybuild.model.errors import UsageError

    return UsageError(
        f"output {dest} would be written elsewhere: {why}",
        hints=("remove that link, or name another place",),
    )
