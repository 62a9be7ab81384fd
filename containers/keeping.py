"""The hold that the spawner has on a container, for when its monitor is killed [MON-6].

from a monitor   ("keep", pid, names) + a descriptor for each name   ("drop",)
                 ("restart",): nothing is to be kept, but the container is to run again
                 ("doze", 0, names) + as for "keep": another is to sleep in its place
to a monitor     ("ended", status): of a first process that is not its child
                 ("followed", whether): another sleeps in its place, so that it can end
"""

from __future__ import annotations

import _socket
import marshal
import os
import struct

from pybuild.networks.helper import is_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.containers.streams import Streams

MESSAGE_BYTES = 4096
MOST_FDS = 64
STDIN, TERMINAL = "stdin", "terminal"
SOCKET_CALLS, HELPER = "socket calls", "helper"
LOCK, CALLS = "lock", "calls"


def is_kept(name: str) -> bool:
    """Whether the spawner holds a descriptor of this name while a monitor lives."""
    return name in (STDIN, TERMINAL, SOCKET_CALLS, HELPER) or is_left(name)


class Adopted:
    """A container that runs, or has just ended, and has no monitor.

    Attributes:
        pid: its first process.
        fds: by name, those that cannot be opened again.
        status: how it has ended, if it has; None where it runs, or nobody knows.
        dozes: its monitor has left it for another that sleeps until anything comes.
    """

    def __init__(
        self, pid: int, fds: dict[str, int], status: int | None = None, *, dozes: bool = False
    ) -> None:
        self.pid = pid
        self.fds = fds
        self.status = status
        self.dozes = dozes


class SpawnerLine:
    """A monitor's line to the spawner."""

    def __init__(self, line: _socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        return self._line.fileno()

    def keep(self, pid: int, streams: Streams, left: Mapping[str, int]) -> None:
        """Have the first process, and what it would miss, kept for the next monitor.

        Args:
            left: of a helper for networks that rests.
        """
        self._hand_over("keep", pid, {STDIN: streams.input, TERMINAL: streams.terminal, **left})

    def doze(self, fds: dict[str, int]) -> bool:
        """Have another monitor, which sleeps, go on with the first process; False: there is none, go on.

        When this returns True the other is there already, and has what we have: whichever process is
        killed meanwhile, the container is not without a monitor.

        Args:
            fds: all that it needs; it wakes when one of them is ready.
        """
        self._hand_over("doze", 0, fds)
        try:
            while data := self._line.recv(MESSAGE_BYTES):
                word, value = marshal.loads(data)
                if word == "followed":
                    return bool(value)
                # ("ended", status), which the next one has been given, and the kernel tells us.
        except OSError:
            pass
        return False  # the spawner was killed

    def _hand_over(self, word: str, pid: int, fds: dict[str, int]) -> None:
        fds = {name: fd for name, fd in fds.items() if fd >= 0}
        packed = struct.pack(f"={len(fds)}i", *fds.values())
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
        self._send((word, pid, list(fds)), rights)

    def let_go(self, *, returns: bool) -> None:
        """Have nothing kept any more, since it has ended; *returns*: it is to run again, under another monitor if need be."""
        self._send(("restart",) if returns else ("drop",), [])

    def _send(self, message: tuple[Any, ...], rights: list[tuple[int, int, bytes]]) -> None:
        try:
            self._line.sendmsg([marshal.dumps(message)], rights)
        except OSError:
            pass  # the spawner was killed; then the next command finds the container by its process

    def status(self) -> int | None:
        """Return how an adopted process has ended, when the line says something; None: the spawner is gone."""
        try:
            data = self._line.recv(MESSAGE_BYTES)
        except OSError:
            return None
        return int(marshal.loads(data)[1]) if data else None


def receive(line: _socket.socket) -> tuple[tuple[Any, ...], list[int]] | None:
    """Return a message of a monitor, with its descriptors; None: it is gone."""
    space = _socket.CMSG_SPACE(MOST_FDS * 4)
    try:
        data, rights, _, _ = line.recvmsg(MESSAGE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
    except OSError:
        return None
    fds: list[int] = []
    for _, _, packed in rights:
        fds += struct.unpack(f"={len(packed) // 4}i", packed[: len(packed) // 4 * 4])
    return (marshal.loads(data), fds) if data else None


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends of a line."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        os.set_inheritable(end.fileno(), False)
    return ours, theirs
