"""Network namespaces of steps that reach nothing but a proxy, and sockets for that proxy. By name.

The namespace has a loopback device and nothing else. A socket that listens there is handed to the
process whose build it is, in which the proxy runs: there is no packet that could go another way.
"""

from __future__ import annotations

import _socket
import errno
import os
import signal
import struct
import sys
from typing import NoReturn

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pybuild.model.border import WorkerCall

_SCM_RIGHTS = 1
_BACKLOG = 128
_LOOPBACK = "127.0.0.1"


def make(directory: str, name: str, port: str) -> tuple[int, int]:
    """Return the descriptors of a new namespace and of its ``sockstat``.

    The socket that listens at *port* in it goes to whoever listens at *name* in *directory*.

    Raises:
        Fault: environment; it cannot be.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become_maker(directory, name, int(port), writing)
    try:
        os.close(writing)
        # The namespace is taken while its maker waits: nobody else has it yet.
        answer = os.read(reading, 4)
        number: int = struct.unpack("i", answer)[0] if answer else errno.EIO
        if number:
            reason = OSError(number, os.strerror(number))
            raise Fault(
                ENVIRONMENT,
                describe_os_error(reason, "cannot make a network with a proxy for the step"),
            )
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return namespace, os.open(f"/proc/{pid}/net/sockstat", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(namespace)
            raise
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become_maker(directory: str, name: str, port: int, writing: int) -> NoReturn:
    """Make the namespace in this process, hand over its socket, and wait to be ended."""
    try:
        number = 0
        try:
            from pybuild.executor.zygote import setup

            syscalls.unshare(syscalls.CLONE_NEWNET)
            setup.loopback_up()
            listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            listener.bind((_LOOPBACK, port))
            listener.listen(_BACKLOG)
            place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
            line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            line.connect(f"/proc/self/fd/{place}/{name}")  # a short name for any place
            _send(line, [listener.fileno()])
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(writing, struct.pack("i", number))
        signal.pause()
    finally:
        os._exit(1)


def sockets(call: WorkerCall, function: str, words: Sequence[str], count: int) -> None:
    """Make *count* sockets in a network namespace of their own, and send them to the caller.

    The namespace is there as long as one of them is.

    Args:
        function: makes it, as that of a `Connecting`; it is called with *words*.

    Raises:
        Fault: environment; it cannot be.
    """
    module, _, name = function.partition(":")
    __import__(module)
    make_space: Callable[..., tuple[int, int]] = getattr(sys.modules[module], name)
    namespace, sockstat = make_space(*words)
    made: list[_socket.socket] = []
    try:
        # This process has no other call to answer: it need not come back.
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        made += [_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM) for _ in range(count)]
        line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, os.dup(call.fds[0]))
        _send(line, [one.fileno() for one in made])
        line.close()
    finally:
        syscalls.close_quietly(namespace, sockstat)
        for one in made:
            one.close()


def _send(line: _socket.socket, fds: list[int]) -> None:
    rights = struct.pack(f"{len(fds)}i", *fds)
    line.sendmsg([b"s"], [(_socket.SOL_SOCKET, _SCM_RIGHTS, rights)])
