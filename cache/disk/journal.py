"""The journal of a store: a line for each thing that was done, in files that go round [ENG-45].

<root>/events/
  journal       a line of JSON for each event, in docker's shape; *journal.1* is the one before it
  lock          held by whoever writes: one at a time

Whoever acts writes it, a command or a monitor; lean, as there is a monitor for each container. What was
done counts more than its line: one that cannot be written is lost.
"""

from __future__ import annotations

import fcntl
import os
import time

from pybuild.model import lightjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "events"
FILES = ("journal.1", "journal")
_LOCK = "lock"
MOST_BYTES = 1 << 20
_MOST_LINE_BYTES = 64 << 10

CONTAINER, IMAGE, NETWORK, VOLUME = "container", "image", "network", "volume"


def note(root: str, kind: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
    """Write down that *action* was done to the *kind* of thing called *id*, just now.

    Args:
        root: the store's directory.
    """
    try:
        folder = os.path.join(root, FOLDER)
        try:
            lock = _open(os.path.join(folder, _LOCK), os.O_RDWR)
        except FileNotFoundError:
            os.makedirs(folder, 0o700, exist_ok=True)
            lock = _open(os.path.join(folder, _LOCK), os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The time is taken in turn, so that later lines never say earlier times.
            _append(folder, _line(kind, action, id, attributes, time.time_ns()))
        finally:
            os.close(lock)
    except OSError:
        pass  # as above


def _line(kind: str, action: str, id: str, attributes: Mapping[str, str], now: int) -> bytes:
    nothing: Mapping[str, str] = {}
    for known in (attributes, nothing):  # labels may be of any size, and are left out then
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": id, "Attributes": dict(known)},
            "scope": "local",
            "time": now // 1_000_000_000,
            "timeNano": now,
        }
        line = lightjson.dumps(event, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        if len(line) <= _MOST_LINE_BYTES:
            break
    return line


def _append(folder: str, line: bytes) -> None:
    older, path = (os.path.join(folder, name) for name in FILES)
    fd = _open(path, os.O_RDWR | os.O_APPEND)
    try:
        size = os.fstat(fd).st_size
        if size and size + len(line) > MOST_BYTES:
            os.rename(path, older)
            full, fd, size = fd, _open(path, os.O_RDWR | os.O_APPEND), 0
            os.close(full)
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # who wrote last was killed in the middle
        if os.write(fd, line) < len(line):
            os.ftruncate(fd, size)  # a full disk takes no half of it
    finally:
        os.close(fd)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
