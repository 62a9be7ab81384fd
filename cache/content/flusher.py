"""Flushing after the fact: a process that outlives a command, so that nobody waits for the disk.

It gets an open directory of snapshots and nothing else of the store: whatever is
done to the store meanwhile, it makes nothing there that was not. While it lives, the directory is
locked, so that others can wait for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from contextlib import suppress

from pybuild.model.package import parent_directories

_CODE = (
    "import sys; sys.path += sys.argv[1:]; from pybuild.cache.content.flusher import main; main()"
)
_FOLDER = 3  # behind the standard streams, of which Python refuses directories


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hand_over(folder: str) -> int:
    """Start it for *folder*, and do not wait; return its process id.

    Raises:
        OSError: it cannot be started.
    """
    fd = _opened(folder)
    try:
        with suppress(OSError):  # a file system without locks: nobody can wait
            fcntl.flock(
                fd, fcntl.LOCK_SH
            )  # before it runs; its copy of the descriptor has the lock
        files: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, fd, _FOLDER)]
        files += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        places = [*parent_directories(), *filter(None, sys.path)]
        words = [sys.executable, "-I", "-S", "-c", _CODE, *places]
        return os.posix_spawn(sys.executable, words, os.environ, file_actions=files, setsid=True)
    finally:
        os.close(fd)


def wait_for_others(folder: str, most_s: float) -> bool:
    """Wait until no process flushes *folder*, so that its file system can be unmounted.

    Returns:
        False: one still does after that many seconds.
    """
    end = time.monotonic() + most_s
    try:
        fd = _opened(folder)
    except FileNotFoundError:
        return True
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.01)
            except OSError:  # a file system without locks
                return True
    finally:
        os.close(fd)


def _opened(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def main(folder: int = _FOLDER) -> None:
    """Flush the file system of *folder*, then mark what was committed in this boot before that."""
    from pybuild.cache.content.syncer import DURABLE
    from pybuild.cache.disk.atomic import Disk
    from pybuild.cache.disk.locks import boot_id

    os.nice(19)
    os.chdir("/")  # whoever wants to unmount something is not kept from it by us
    boot = boot_id()
    waiting = [name for name in os.listdir(folder) if _waits(folder, name, boot)]
    Disk().flush_file_system_of(folder)
    for name in waiting:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            os.close(os.open(f"{name}/{DURABLE}", flags, 0o600, dir_fd=folder))
        except OSError:
            pass  # somebody else was faster, or removed it


def _waits(folder: int, name: str, boot: str | None) -> bool:
    """Return whether the delta was committed in this boot and is not durable."""
    from pybuild.cache.content.syncer import DURABLE

    try:
        os.stat(f"{name}/{DURABLE}", dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    else:
        return False
    try:
        with open(
            os.open(f"{name}/meta.json", os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder), "rb"
        ) as file:
            return bool(json.load(file).get("boot") == boot)
    except (OSError, ValueError, AttributeError, RecursionError):
        return False
