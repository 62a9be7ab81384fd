"""A network of its own for a step, which slirp4netns connects to ours by ordinary sockets [SBX-19].

It needs no privilege beyond the namespace, and nobody on our network sees the step but as us; our
loopback addresses cannot be reached. The helper ends with the step, and with the zygote.
"""

from __future__ import annotations

import os
import select

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_SERVER = "10.0.2.3"
"""Asks the servers of the host, loopback ones too."""
_PROGRAM = "slirp4netns"
_SECONDS = 10
_MTU = 65520


class Usernet:
    """The connection of one step; where not *wanted*, nothing happens."""

    def __init__(self, isolated: bool) -> None:
        self._pid = 0
        self._program = ""
        self._ready = self._exit = (-1, -1)
        if isolated:
            self._program = _slirp()
            self._ready, self._exit = os.pipe(), os.pipe()

    def start(self, pid: int) -> None:
        """Connect the namespace of process *pid*. For the zygote, which then keeps one end."""
        if not self._program:
            return
        ready, exit = self._ready[1], self._exit[0]
        os.set_inheritable(exit, True)
        try:
            self._pid = spawn(self._program, (f"--exit-fd={exit}", str(pid)), ready)
        except OSError:
            pass  # The step sees the end of the pipe.
        syscalls.close_quietly(ready, exit, self._ready[0])

    def wait(self) -> None:
        """Return when the network is there. For the step's process.

        Raises:
            Fault: environment; it will not be.
        """
        if not self._program:
            return
        syscalls.close_quietly(self._ready[1], *self._exit)
        poller = select.poll()
        poller.register(self._ready[0], select.POLLIN)
        ready = poller.poll(_SECONDS * 1000) and os.read(self._ready[0], 1)
        os.close(self._ready[0])
        if not ready:
            raise Fault(
                ENVIRONMENT,
                "cannot connect the step's own network: slirp4netns failed",
                (
                    "let us open /dev/net/tun: chmod 666 /dev/net/tun, as root",
                    'or use the host\'s network: [network] mode = "host" in the configuration',
                ),
            )

    @property
    def is_served(self) -> bool:
        """Whether a helper of ours serves it."""
        return self._pid > 0

    def stop(self) -> None:
        """End the helper. For the zygote."""
        if self._program:
            syscalls.close_quietly(self._exit[1])
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def abandon(self) -> None:
        """Close what was made for a step that could not be started."""
        if self._program:
            syscalls.close_quietly(*self._ready, *self._exit)


def spawn(program: str, target: Sequence[str], ready: int) -> int:
    """Start slirp4netns; return its number.

    Args:
        target: the last of its options, and the namespace that it connects.
        ready: a pipe that it writes to when it does, and closes when it cannot.

    Raises:
        OSError: it cannot be started.
    """
    os.set_inheritable(ready, True)
    # It leaves our file system and our calls before it looks at what the namespace sends.
    command = [program, "--configure", f"--mtu={_MTU}", "--disable-host-loopback"]
    command += ["--enable-sandbox", "--enable-seccomp", f"--ready-fd={ready}", *target, "tap0"]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    streams = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1)]
    try:
        environment = {"PATH": "/usr/sbin:/usr/bin"}
        return os.posix_spawn(program, command, environment, file_actions=streams)
    finally:
        os.close(null)


def find(program: str) -> str:
    """Return the path of a program, "": it is not installed."""
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/sbin"):
        path = f"{directory}/{program}"
        if directory.startswith("/") and os.access(path, os.X_OK):
            return path
    return ""


def _slirp() -> str:
    if path := find(_PROGRAM):
        return path
    raise Fault(
        ENVIRONMENT,
        "a network of the step's own needs slirp4netns, which is not installed",
        ("install slirp4netns", 'or set [network] mode = "host" in the configuration'),
    )
