"""Runs pybuild's command line on a system that has nothing which only Linux, or only Unix, has: ``python elsewhere.py WORDS…``."""

from __future__ import annotations

import os
import socket
import sys
from importlib.abc import MetaPathFinder
from typing import Any

UNIX_MODULES = (
    "_posixsubprocess",
    "fcntl",
    "grp",
    "pty",
    "pwd",
    "resource",
    "syslog",
    "termios",
    "tty",
)
_OF_OS = (
    *(
        "chown",
        "chroot",
        "confstr",
        "copy_file_range",
        "eventfd",
        "fchmod",
        "fchown",
        "fork",
        "forkpty",
    ),
    *("getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getresuid"),
    *(
        "getsid",
        "getuid",
        "getxattr",
        "initgroups",
        "killpg",
        "lchown",
        "listxattr",
        "lockf",
        "major",
    ),
    *(
        "makedev",
        "memfd_create",
        "minor",
        "mkfifo",
        "mknod",
        "nice",
        "openpty",
        "pidfd_open",
        "pipe2",
    ),
    *(
        "posix_fadvise",
        "posix_fallocate",
        "posix_spawn",
        "pread",
        "preadv",
        "pwrite",
        "pwritev",
        "readv",
    ),
    *(
        "register_at_fork",
        "removexattr",
        "sendfile",
        "setgid",
        "setgroups",
        "setpgid",
    ),
    *(
        "setsid",
        "setuid",
        "setxattr",
        "splice",
        "statvfs",
        "sync",
        "sysconf",
        "tcgetpgrp",
        "ttyname",
        "uname",
    ),
    *(
        "unshare",
        "wait3",
        "wait4",
        "waitid",
        "WNOHANG",
        "writev",
        "O_CLOEXEC",
        "O_DIRECTORY",
        "O_NOFOLLOW",
    ),
    *(
        "O_NONBLOCK",
        "O_PATH",
        "O_TMPFILE",
        "SEEK_DATA",
        "SEEK_HOLE",
        "RTLD_NOW",
        "fchdir",
        "fdatasync",
    ),
    *("fpathconf", "fstatvfs"),
)


class _Absent(MetaPathFinder):
    """Finds no module that other systems have not."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in UNIX_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _pair(*given: Any) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    return ours, theirs


def main() -> int:
    for name in ("asyncio", "selectors", "subprocess"):  # those of Unix have begun by what it has
        __import__(name)

    for name in (*UNIX_MODULES, "tempfile"):  # which looks what there is when it is imported
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent())
    for name in _OF_OS:
        if hasattr(os, name):
            delattr(os, name)
    del socket.AF_UNIX
    setattr(socket, "socketpair", _pair)  # noqa: B010 - as Windows' Python makes one
    known: Any = __import__("pybuild.cli", fromlist=["main"])
    return int(known.main())


if __name__ == "__main__":
    sys.exit(main())
