"""A container's state on disk: written by its monitor at each turn, read by everybody."""

from __future__ import annotations

import os

from pybuild.cache.disk.plainfile import whole
from pybuild.cache.disk.replacing import replace_file
from pybuild.containers.order import STATE
from pybuild.model import lightjson
from pybuild.model.border import NamedTuple

CREATED, RUNNING, EXITED = "created", "running", "exited"
PAUSED, RESTARTING = "paused", "restarting"
LIVING = (RUNNING, PAUSED, RESTARTING)
"""States that a container is in only as long as somebody watches it."""
STATUS_UNKNOWN = 255
"""The exit code of a container whose end nobody saw [MON-6]."""
NOT_STARTED = 128
"""That of one which could not be started [CTR-25]."""


class ContainerState(NamedTuple):
    """The state as its file says; what no longer lives has still to be found out [MON-7].

    Attributes:
        boot: the id of the machine's boot that *pid* is of.
        started, finished: nanoseconds since the epoch; 0: not yet.
        error: why it could not be started.
        born: when *pid* began, by the kernel's clock, so that another of that number is not taken for it.
        leaf: its cgroups, ``(version, path)``.
        restarts: how often it was started again since somebody started it.
        stopped: somebody stopped it, so that it is not started again by itself.
        kill_at: when it is to be killed then, in seconds since the boot; 0: not by itself.
        unsent: the signal that is to stop it, until it was sent; 0: none is.
    """

    status: str = CREATED
    pid: int = 0
    boot: str = ""
    started: int = 0
    finished: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    born: int = 0
    leaf: tuple[tuple[int, str], ...] = ()
    restarts: int = 0
    stopped: bool = False
    kill_at: float = 0.0
    unsent: int = 0

    @property
    def lives(self) -> bool:
        """Whether it is in a state that somebody watches."""
        return self.status in LIVING


def write_state(home: int, state: ContainerState) -> None:
    """Replace the state in the directory *home*: whole, or as it was.

    Raises:
        OSError: it cannot be written.
    """
    data = lightjson.dumps(state._asdict(), sort_keys=True).encode()
    replace_file(STATE, data, at=home, flush=True)


def save_state(home: int, state: ContainerState) -> bool:
    """As `write_state`, for who has to go on: on a full disk over the file that is there; False: not even so."""
    try:
        write_state(home, state)
        return True
    except OSError:
        pass
    try:
        fd = os.open(STATE, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
        try:
            # It takes no more room than it has, and is read as if it were shorter.
            data = lightjson.dumps(state._asdict(), sort_keys=True).encode()
            data = data.ljust(os.fstat(fd).st_size)
            return os.pwrite(fd, data, 0) == len(data)
        finally:
            os.close(fd)
    except OSError:
        return False


def read_state(home: int) -> ContainerState:
    """Return the state that the directory *home* has, or that of a new container.

    Raises:
        OSError: it cannot be read. ValueError: it is damaged.
    """
    try:
        fd = os.open(STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
    except FileNotFoundError:
        return ContainerState()
    known = lightjson.loads(whole(fd))
    if not isinstance(known, dict):
        raise ValueError("not an object")
    return ContainerState(**{name: known[name] for name in ContainerState._fields if name in known})
