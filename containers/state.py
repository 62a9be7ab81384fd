"""A container's state on disk: written by its monitor at each turn, read by everybody."""

from __future__ import annotations

import json
import os

from pybuild.containers.order import STATE
from pybuild.model.border import NamedTuple

CREATED, RUNNING, EXITED = "created", "running", "exited"
LOST = 255
"""The exit code of a container whose end nobody saw [MON-6]."""
NOT_STARTED = 128
"""That of one which could not be started [CTR-25]."""


class ContainerState(NamedTuple):
    """The state as its file says; what no longer lives has still to be found out [MON-7].

    Attributes:
        boot: the id of the machine's boot that *pid* is of.
        started, finished: nanoseconds since the epoch; 0: not yet.
        error: why it could not be started.
    """

    status: str = CREATED
    pid: int = 0
    boot: str = ""
    started: int = 0
    finished: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""


def write_state(home: int, state: ContainerState) -> None:
    """Replace the state in the directory *home*: whole, or as it was.

    Raises:
        OSError: it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(STATE + ".new", flags, 0o600, dir_fd=home)
    try:
        os.write(fd, json.dumps(state._asdict(), sort_keys=True).encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(STATE + ".new", STATE, src_dir_fd=home, dst_dir_fd=home)


def read_state(home: int) -> ContainerState:
    """Return the state that the directory *home* has, or that of a new container.

    Raises:
        OSError: it cannot be read. ValueError: it is damaged.
    """
    try:
        fd = os.open(STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
    except FileNotFoundError:
        return ContainerState()
    with open(fd, "rb") as file:
        known = json.loads(file.read())
    if not isinstance(known, dict):
        raise ValueError("not an object")
    return ContainerState(**{name: known[name] for name in ContainerState._fields if name in known})
