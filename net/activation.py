"""Sockets that a service manager has opened for us, and what it hears of us (systemd's protocols)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError

_FIRST_FD = 3
_MOST = 64
_DOCKER = "docker"
"""A socket with this in its name is for Docker's API, the others are for BuildKit's."""


@dataclass(frozen=True, slots=True)
class HandedSocket:
    """A socket that listens already, and its name in its unit (``FileDescriptorName=``)."""

    name: str
    socket: socket.socket

    @property
    def is_docker(self) -> bool:
        return _DOCKER in self.name

    @property
    def shown(self) -> str:
        """The address where it listens."""
        at = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return f"unix://{at}"
        host = f"[{at[0]}]" if ":" in at[0] else at[0]
        return f"tcp://{host}:{at[1]}"

    @property
    def host(self) -> str:
        """The host of its address, empty for a Unix socket."""
        return "" if self.socket.family == socket.AF_UNIX else str(self.socket.getsockname()[0])


def handed_names(environ: Mapping[str, str], pid: int) -> Sequence[str]:
    """Return the names of the sockets that were handed to the process *pid*, in their order; pure.

    A socket without a name has that of its unit, as systemd gives it.

    Raises:
        UsageError: the variables make no sense.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return ()
    text = environ.get("LISTEN_FDS", "")
    if not text.isdecimal() or not 0 < int(text) <= _MOST:
        raise UsageError(f'$LISTEN_FDS is "{text}": expected a number of sockets')
    count = int(text)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return [*names, *[""] * count][:count]


def take(environ: MutableMapping[str, str]) -> list[HandedSocket]:
    """Take what was handed over; programs that we start are handed nothing.

    Raises:
        UsageError: something of it is no socket that listens.
    """
    names = handed_names(environ, os.getpid())
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    taken: list[HandedSocket] = []
    for fd, name in enumerate(names, _FIRST_FD):
        try:
            os.set_inheritable(fd, False)
            own = socket.socket(fileno=fd)
            listens = own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise UsageError(f"file descriptor {fd} ({name}) is no socket") from error
        if not listens or own.type != socket.SOCK_STREAM:
            own.detach()
            raise UsageError(
                f"the socket {name or fd} does not listen for streams",
                hints=["its unit needs ListenStream=, and Accept=no"],
            )
        taken.append(HandedSocket(name, own))
    return taken


def notify(state: str) -> None:
    """Tell the service manager, if there is one: ``READY=1``, ``STOPPING=1``."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.setblocking(False)
        own.sendto(state.encode(), address)
