"""The order to the process that watches a container, its files, and the words between it and commands.

A command speaks to a monitor over a SOCK_SEQPACKET socket in the container's directory, in `marshal`, as
workers do: both ends are ours, and the directory is the user's alone.

    to the spawner   ("run", ContainerOrder, list of StreamAttachment) + the container's directory, and a
                     socket for each of those who are attached from the first byte on
                     ("adopt", ContainerOrder, pid) + the container's directory: its monitor is gone
    from a monitor   ("started", warnings)   ("fault", kind, message, hints)
                     ("unexecuted", status, text)   ("done", warnings)
    to a monitor     ("kill", signal)   ("stop", signal, seconds)   ("restart", signal, seconds): stopped, to
                     be started again at once, so that it is not removed   ("wait",)   ("pause",)   ("unpause",)
                     ("update", StepLimits, RestartPolicy or None)   ("processes",)
                     ("size", rows, columns): of its terminal
                     ("attach", StreamAttachment)   ("exec", ExecOrder)   ("execute", GivenExec): what the
                     container says of it is read by the monitor, which answers ("attached",) or ("unable",)
    whoever is attached, or executes something
        says         ("input", bytes)   ("eof",)   ("resize", rows, columns)   ("signal", number)
        hears        ("output", 1 or 2, bytes)   ("taken",): of its input, so that it can say more
                     ("ended", status), and is left by the monitor then; ("kept", status) in its place, to
                     who was to remove the container: it is started again
                     ("began", pid): of what was executed with an id
"""

from __future__ import annotations

import _socket
import marshal
import os

from pybuild.cache.disk.replacing import replace_file
from pybuild.executor.steps.spec import StepSpec
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.model.border import Misfit, NamedTuple, packed, unpacked
from pybuild.networks.order import NetworkOrder

# The files of a container, in its directory [MON-2]; the last five of all containers, in theirs.
LOCK = "lock"
"""Held by the monitor for its life, whatever becomes of its process number [MON-3]."""
STATE = "state.json"
CONFIG = "config.json"
LOG = "log.json"
TREE, WORK = "fs", "work"
HEALTH = "health.json"
ORDER = "order"
PIPES = ("stdout", "stderr")
SPAWNER = "spawner"
SPAWNER_LOCK = "spawner.lock"
SPAWNER_LOG = "spawner.log"
"""Where it and monitors complain; begun anew by each spawner."""


class RestartPolicy(NamedTuple):
    """When a container that has ended is started again [CTR-33].

    Attributes:
        name: ``no``, ``on-failure``, ``always`` or ``unless-stopped``.
        most: restarts of ``on-failure``; 0: any number.
    """

    name: str = "no"
    most: int = 0


class LogConfig(NamedTuple):
    """Where the output goes [CTR-75].

    Attributes:
        driver: ``json-file``, ``local`` or ``none``.
        options: as they were given: ``max-size``, ``max-file``.
    """

    driver: str = "json-file"
    options: dict[str, str] = {}  # noqa: RUF012 - of a tuple, which nobody changes


_INTERVAL_NS, _START_INTERVAL_NS, _RETRIES = 30_000_000_000, 5_000_000_000, 3


class HealthCheck(NamedTuple):
    """A look after a container's health, as it was given [CTR-3, CTR-37].

    Attributes:
        test: ``("CMD", …)``, ``("CMD-SHELL", text)`` or ``("NONE",)``.
        interval, timeout, start_period, start_interval: in nanoseconds; 0: docker's.
        retries: so many failures in a row make it unhealthy; 0: docker's.
    """

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def resolved(self, shell: tuple[str, ...]) -> HealthCheck | None:
        """Return it with the program and all numbers, as it is carried out; None: nobody looks."""
        if self.test[:1] == ("NONE",):
            return None
        test = self.test
        if test[:1] == ("CMD-SHELL",):
            test = ("CMD", *(shell or ("/bin/sh", "-c")), *test[1:])
        return HealthCheck(
            test,
            self.interval or _INTERVAL_NS,
            self.timeout or _INTERVAL_NS,
            self.start_period,
            self.start_interval or _START_INTERVAL_NS,
            self.retries or _RETRIES,
        )


class ContainerPrivileges(NamedTuple):
    """The rights of a container beside the default, and below it, as they were given.

    Attributes:
        cap_add, cap_drop: ``CAP_…``, or ``ALL``.
        security_opts: as docker shows them.
        devices: ``(path here, path there, rights)``. *cdi*: names of devices in CDI's files.
        groups: of its user, beside those of the image.
        sysctls: ``(name, value)``.
    """

    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opts: tuple[str, ...] = ()
    devices: tuple[tuple[str, str, str], ...] = ()
    cdi: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    oom_score_adj: int = 0
    sysctls: tuple[tuple[str, str], ...] = ()


HOST = "host"
_CONTAINER = "container:"
OWN_IPC = ("", "private", "shareable", "none")


class ContainerNamespaces(NamedTuple):
    """As it was given.

    Attributes:
        ipc: ``private``, ``shareable``, ``none``, ``host`` or ``container:NAME``; "" is the first.
        pid: ``host`` or ``container:NAME``; "" is its own.
        cgroup: ``host`` or ``private``; "" is the second.
        uts, user: ``host``, or "".
    """

    ipc: str = ""
    pid: str = ""
    uts: str = ""
    cgroup: str = ""
    user: str = ""

    @property
    def has_own_ipc(self) -> bool:
        return self.ipc in OWN_IPC


def joined_name(mode: str) -> str:
    """Return the name of the container whose namespace a mode is, "": it is no such mode."""
    return mode.removeprefix(_CONTAINER) if mode.startswith(_CONTAINER) else ""


class ContainerOrder(NamedTuple):
    """One run of a container.

    Attributes:
        id: 64 hexadecimal digits.
        step: the process and its file tree, which is kept.
        boot: the id of this boot of the machine.
        networks: None where it has none of its own.
        joined: the id of the container whose network it shares, "": nobody's but ours; *joined_ipc* and
            *joined_pids* are those whose namespaces of these kinds it shares.
        stdin, stdin_once, restart, log, health, auto_remove: as in `ContainerConfig`.
        stop_signal: which ends it for good, whatever its restart policy.
        root: the store's directory.
    """

    id: str
    step: StepSpec
    boot: str = ""
    networks: NetworkOrder | None = None
    joined: str = ""
    joined_ipc: str = ""
    joined_pids: str = ""
    stdin: bool = False
    stdin_once: bool = False
    stop_signal: int = 15
    restart: RestartPolicy = RestartPolicy()
    log: LogConfig = LogConfig()
    health: HealthCheck | None = None
    auto_remove: bool = False
    root: str = ""


class StreamAttachment(NamedTuple):
    """The streams that somebody is attached to.

    Attributes:
        stdin, stdout, stderr: these streams.
        waits: the container waits where its output is not taken; who does not is left behind.
        removes: who is attached removes the container after its end, and the monitor need not.
        size: rows and columns of the terminal at which it is shown; both 0 where there is none.
    """

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    waits: bool = False
    removes: bool = False
    size: tuple[int, int] = (0, 0)


class ExecOrder(NamedTuple):
    """One more process in a container that runs [CTR-50].

    Attributes:
        args, env, cwd, user: as of the first process.
        terminal: rows and columns, where it has one of its own.
        privileged: it has all that there is to be had.
        stdin: it has a standard input that can be written to.
        detached: nobody hears it; the answer is whether it was executed.
        id: that its events have, "": one that nobody knows.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    terminal: tuple[int, int] | None = None
    privileged: bool = False
    stdin: bool = False
    detached: bool = False
    id: str = ""


def write_order(home: int, order: ContainerOrder) -> None:
    """Keep the order of a run, for its monitor and for the one that may have to adopt it; *home* is open."""
    replace_file(ORDER, marshal.dumps(packed(order)), at=home)


def read_order(home: int) -> ContainerOrder:
    """Return the order of the run that goes on.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    fd = os.open(ORDER, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=home)
    with open(fd, "rb") as file:
        try:
            order: ContainerOrder = unpacked(marshal.load(file))
        except (Misfit, EOFError, TypeError) as error:
            raise ValueError(f"of another version: {error}") from error
    return order


def reconnected(order: ContainerOrder, home: int) -> ContainerOrder:
    """Return *order* with the networks that the container was brought to, or taken off, since."""
    try:
        return order._replace(networks=read_order(home).networks)
    except (OSError, ValueError):
        return order


def accept(listener: _socket.socket) -> _socket.socket:
    """Return the next connection to *listener*.

    Raises:
        OSError: there is none any more.
    """
    fd = int(listener._accept()[0])  # type: ignore[attr-defined]  # pyright: ignore
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd)


def of_other_version() -> Fault:
    """Return the fault of a message whose values are not known here: those that run do not pay for it."""
    return Fault(
        ENVIRONMENT,
        "containers of this store run under another version of pybuild",
        ("stop those that run, or use the version that started them",),
    )
