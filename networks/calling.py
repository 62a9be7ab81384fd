"""The line from a command to the helper of a container that runs: it connects and disconnects it [NET-30].

The helper is called itself, not by the container's monitor: it outlives one that is killed.

    to the helper   ("connect", EndpointOrder)   ("disconnect", the network's id)   ("rename", name)
                    ("unlink", alias)   ("linked",): look at the linked containers again
    from it         ("done", warnings)   ("fault", kind, message, hints)
"""

from __future__ import annotations

import _socket
import marshal
import os

from pybuild.networks.records import CALLS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_MESSAGE_BYTES = 1 << 16
_BACKLOG = 16
_SECONDS = 60.0


def listen(folder: str, container: str) -> _socket.socket:
    """Return the socket at which a container's helper is called; *folder* is that of the networks."""
    place = os.path.join(folder, CALLS)
    try:
        os.mkdir(place, 0o700)
    except FileExistsError:
        pass
    listener = _seqpacket()
    at = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.unlink(container, dir_fd=at)
        except FileNotFoundError:
            pass
        listener.bind(f"/proc/self/fd/{at}/{container}")  # however long the path is
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(at)
    return listener


def receive(caller: _socket.socket) -> Sequence[Any] | None:
    """Return the message of a caller; None: it has left."""
    data = caller.recv(_MESSAGE_BYTES)
    return tuple(marshal.loads(data)) if data else None


def reply(caller: _socket.socket, message: Sequence[Any]) -> None:
    try:
        caller.send(marshal.dumps(tuple(message)))
    except OSError:
        pass  # who called is gone


def call(folder: str, container: str, *message: Any) -> Sequence[Any] | None:
    """Return a helper's answer; None: the container has none, or has just ended.

    Raises:
        OSError: it does not answer.
    """
    caller = _seqpacket()
    try:
        at = os.open(os.path.join(folder, CALLS), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            caller.connect(f"/proc/self/fd/{at}/{container}")
        finally:
            os.close(at)
        caller.settimeout(_SECONDS)
        caller.send(marshal.dumps(message))
        return receive(caller)
    except (FileNotFoundError, ConnectionError):
        return None
    finally:
        caller.close()


def _seqpacket() -> _socket.socket:
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
