"""Commands that call a monitor: its socket, and who is at the other end of it."""

from __future__ import annotations

import _socket
import marshal
import os

from pybuild.containers.lines import MESSAGE_BYTES, SOCKET
from pybuild.containers.order import accept
from pybuild.containers.streams import AttachedClient

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybuild.containers.loop import Loop

_BACKLOG = 128
_PAUSE_S = 0.2


def tell(socket: _socket.socket, message: Sequence[Any]) -> None:
    """Answer who has asked, if they are still there."""
    try:
        socket.send(marshal.dumps(tuple(message)))
    except OSError:
        pass  # who asked is gone


class Calls:
    """The socket in a container's directory.

    Args:
        home: that directory, open.
        say: takes what somebody says; None: they have left.
        listener: the socket, if another monitor has left it.
    """

    def __init__(
        self,
        loop: Loop,
        home: int,
        say: Callable[[AttachedClient, tuple[Any, ...] | None], None],
        listener: int = -1,
    ) -> None:
        self._loop = loop
        self._say = say
        self._clients: list[AttachedClient] = []
        if listener < 0:
            self._listener = _listening(home)
        else:
            self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, listener)
        loop.watch(self._listener.fileno(), self._accept)

    def fileno(self) -> int:
        return self._listener.fileno()

    @property
    def has_callers(self) -> bool:
        return any(not client.is_gone for client in self._clients)

    def end(self) -> None:
        """Take no more calls; who is there already is still heard."""
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    @property
    def are_drained(self) -> bool:
        """Whether all that was sent is on its way."""
        return all(client.is_drained for client in self._clients)

    def _accept(self, _events: int) -> None:
        try:
            socket = accept(self._listener)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: who waits would be seen again and again
            self._loop.forget(self._listener.fileno())
            self._loop.after(_PAUSE_S, self._listen_again)
            return
        self.take(socket)

    def _listen_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.watch(self._listener.fileno(), self._accept)

    def take(self, socket: _socket.socket) -> AttachedClient:
        """Return the caller at the other end of a socket, and hear it."""
        socket.setblocking(False)
        client = AttachedClient(self._loop, socket)
        self._clients = [known for known in self._clients if not known.is_gone]
        self._clients.append(client)
        client.watch(lambda events: self._hear(client))
        return client

    def _hear(self, client: AttachedClient) -> None:
        try:
            data = client.socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            client.abandon()
        self._say(client, marshal.loads(data) if data else None)


def _listening(home: int) -> _socket.socket:
    # By its name in the directory, however long the path of that is.
    os.fchdir(home)
    try:
        os.unlink(SOCKET)
    except FileNotFoundError:
        pass
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    listener.bind(SOCKET)
    os.chdir("/")  # where a zygote is: paths are looked up from there
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
