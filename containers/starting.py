"""How a container is started: by the store's spawner, which is started itself where there is none."""

from __future__ import annotations

import _socket
import fcntl
import marshal
import os

from pybuild.containers.lines import MESSAGE_BYTES, LocalLine
from pybuild.containers.order import (
    SPAWNER,
    SPAWNER_LOCK,
    SPAWNER_LOG,
    ContainerOrder,
    StreamAttachment,
)
from pybuild.executor.zygote.faults import describe_os_error
from pybuild.model.border import packed
from pybuild.model.errors import EnvironmentFault, InternalError, UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_BOOT = (
    "import sys; "
    "sys.path += sys.argv[4:]; "
    "from pybuild.containers.spawner import main; "
    "rootless = {'yes': True, 'no': False}.get(sys.argv[3]); "
    "main(int(sys.argv[1]), int(sys.argv[2]), rootless)"
)
_SECONDS = 60.0
_BACKLOG = 128


class NotExecuted(UserError):
    """A container's program that could not be executed; *status* is what a shell would end with."""

    def __init__(self, message: str, status: int = 127) -> None:
        super().__init__(message)
        self.status = status


def start(
    folder: str,
    home: int,
    order: ContainerOrder,
    rootless: bool | None,
    attached: Sequence[tuple[_socket.socket, StreamAttachment]] = (),
) -> Sequence[str]:
    """Have a container started; return the warnings about what it has to go on without.

    Args:
        folder: of all containers of the store.
        home: the container's directory, open.
        attached: the monitor's ends of lines to those who are there from the first byte on.

    Raises:
        UserError, EnvironmentFault: it cannot be. NotExecuted: its program cannot be executed.
    """
    message = marshal.dumps(("run", packed(order), [packed(one) for _, one in attached]))
    if len(message) > MESSAGE_BYTES:
        raise EnvironmentFault(
            f"what the container is given takes {len(message)} bytes: at most {MESSAGE_BYTES}",
            hints=["pass fewer or shorter arguments and variables"],
        )
    return _ask(folder, message, [home, *(line.fileno() for line, _ in attached)], rootless)


def adopt(folder: str, home: int, order: ContainerOrder, pid: int, rootless: bool | None) -> None:
    """Have a container watched again whose monitor was killed; its first process is *pid* [MON-6].

    Raises:
        UserError, EnvironmentFault: it cannot be.
    """
    _ask(folder, marshal.dumps(("adopt", packed(order), pid)), [home], rootless)


def is_spawning(folder: str) -> bool:
    """Whether a spawner of the store lives, which may know how a container has ended."""
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with LocalLine.to(f"/proc/self/fd/{at}/{SPAWNER}"):
            return True
    except OSError:
        return False
    finally:
        os.close(at)


def _ask(folder: str, message: bytes, fds: list[int], rootless: bool | None) -> Sequence[str]:
    try:
        with _connected(folder, rootless) as spawner:
            spawner.settimeout(_SECONDS)
            spawner.say(message, fds)
            data = spawner.recv(MESSAGE_BYTES)
    except OSError as error:
        raise EnvironmentFault(describe_os_error(error, "cannot start the container")) from error
    if not data:
        raise EnvironmentFault(
            "the container's monitor ended before the container had begun",
            hints=[f"see {os.path.join(folder, SPAWNER_LOG)}"],
        )
    answer: Sequence[Any] = marshal.loads(data)
    match answer:
        case ("started", warnings):
            return list(warnings)
        case ("unexecuted", int() as status, str() as text):
            raise NotExecuted(text, status)
        case ("fault", *_):
            from pybuild.executor.workers.launch import error_of

            raise error_of(answer)
        case _:
            raise InternalError(f"unknown answer of a monitor: {answer!r}")


def _connected(folder: str, rootless: bool | None) -> LocalLine:
    """Return a connection to the spawner, which cannot leave before it has taken it."""
    lock = os.open(os.path.join(folder, SPAWNER_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            address = f"/proc/self/fd/{at}/{SPAWNER}"
            try:
                return LocalLine.to(address)
            except (FileNotFoundError, ConnectionRefusedError):
                _launch(folder, address, rootless)
                return LocalLine.to(address)
        finally:
            os.close(at)
    finally:
        os.close(lock)


def _launch(folder: str, address: str, rootless: bool | None) -> None:
    """Start a spawner that listens already: who connects need not wait until it is ready."""
    from pybuild.executor.workers.launch import default_pythonpath, start_lean

    if os.path.lexists(address):
        os.unlink(address)
    listener = LocalLine(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    # Its own open file of the lock: ours is held, and is let go of when we are done.
    lock = os.open(os.path.join(folder, SPAWNER_LOCK), os.O_RDWR | os.O_CLOEXEC)
    log = -1
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        log = os.open(os.path.join(folder, SPAWNER_LOG), flags, 0o600)
        listener.bind(address)
        listener.listen(_BACKLOG)
        fds = (listener.fileno(), lock)
        start_lean(_BOOT, fds, rootless, default_pythonpath(), shielded=True, stderr=log)
    finally:
        listener.close()
        for fd in (lock, log):
            if fd >= 0:
                os.close(fd)
