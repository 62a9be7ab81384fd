"""Lines between a command and a monitor, or the spawner, and where in the store the monitor of a container listens.

Lean: a command that only speaks to a monitor loads this, and nothing that describes containers.
"""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

MESSAGE_BYTES = 1 << 18
SOCKET = "monitor"
NAMES = "names"

_DIGITS = frozenset("0123456789abcdef")
_ID_DIGITS = 64
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_LATER = _FIRST | frozenset("_.-")


class LocalLine(_socket.socket):
    """A line between a command and a monitor, or the spawner: open for a block, or until it is closed."""

    @staticmethod
    def to(address: str) -> LocalLine:
        """Return a line to who listens at *address*.

        Raises:
            OSError: there is nobody.
        """
        line = LocalLine(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            line.connect(address)
        except BaseException:
            line.close()
            raise
        return line

    @staticmethod
    def into(home: int) -> LocalLine:
        """Return a line to the monitor of the container whose directory *home* is, however long its path.

        Raises:
            OSError: there is none.
        """
        return LocalLine.to(f"/proc/self/fd/{home}/{SOCKET}")

    @staticmethod
    def pair() -> tuple[LocalLine, LocalLine]:
        """Return both ends of a line."""
        ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        ours, theirs = (LocalLine(fileno=end.detach()) for end in ends)
        return ours, theirs

    def say(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message, with descriptors.

        Raises:
            OSError: nobody hears it.
        """
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        self.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def is_name(text: str) -> bool:
    """Whether a container can be called so."""
    return 1 < len(text) < 256 and text[0] in _FIRST and _LATER.issuperset(text)


def is_id(text: str) -> bool:
    return len(text) == _ID_DIGITS and _DIGITS.issuperset(text)


def may_begin_id(text: str) -> bool:
    return 0 < len(text) < _ID_DIGITS and _DIGITS.issuperset(text)


def id_of_name(folder: str, text: str) -> str:
    """Return the id that has the name *text*, which docker's inspect shows with a slash; *text* itself: it is no name.

    Args:
        folder: of all containers of the store.
    """
    name = text.removeprefix("/")
    try:
        # Looked for, not made: who asks for a container need not be the first to have one.
        if is_name(name):
            with open(os.path.join(folder, NAMES, name), "rb") as file:
                return file.read().decode("ascii")
    except (OSError, ValueError):
        pass
    return text


def home_of(folder: str, text: str) -> int:
    """Return the directory, open, of the container with this name or id, or the only one whose id begins so.

    Raises:
        OSError: there is none, or there are several.
    """
    id = id_of_name(folder, text)
    if not is_id(id):
        ids = [one for one in os.listdir(folder) if is_id(one) and one.startswith(text)]
        if not may_begin_id(text) or len(ids) != 1:
            raise FileNotFoundError(text)
        id = ids[0]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(os.path.join(folder, id), flags)
