"""Sockets of 32-bit programs, made outside of their step [SBX-8].

C libraries and Go for i386 make sockets by socketcall(2), whose arguments lie in memory where a filter
cannot look. To refuse it would leave such programs without a network. So the filter hands it to whoever
listens, who reads the arguments once and does what they say: to let the kernel do it would be to let
it read them again, after another thread has changed them.

What is done here is done with our privileges, and only what needs none is. It is done in processes
that end with it: whoever closes the last descriptor of a socket waits for what that has still to
send (SO_LINGER) as long as the step likes, and who ends does not wait.
"""

from __future__ import annotations

import errno
import os
import struct

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.recorder.peer import CallGone, serve
from pybuild.executor.zygote.seccomp import (
    FAMILIES,
    FORGING,
    INTERNET,
    PACKET,
    RAW,
    SYS_SOCKET,
    TYPE_MASK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.zygote.recorder.peer import Call
    from pybuild.model.border import WorkerCall

_SOL_SOCKET = 1
_TIMEOUTS = (20, 21)  # SO_RCVTIMEO, SO_SNDTIMEO
# By level, the options that ask for no privilege and whose values have the same form in 32 bits and in 64:
# of SOL_SOCKET, IP, TCP, UDP, IPV6, NETLINK.
_OPTIONS: dict[int, tuple[int, ...]] = {
    _SOL_SOCKET: (2, 5, 6, 7, 8, 9, 10, 13, 15, 16, 18, *_TIMEOUTS, 29, 35),
    0: (1, 2, 6, 7, 8, 10, 11, 12, 13, 15, 24, 32, 33, 34, 35, 36),
    6: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 23, 25, 30),
    17: (1,),
    41: (16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 49, 51, 66, 67),
    270: (3, 10, 11, 12),
}
_MOST_BYTES = 64
_SYS_PTRACE = 1 << 19


def answer_all(call: WorkerCall) -> None:
    """Answer all that comes to the listener handed over, as a call of the zygote that has the step."""
    os.chdir("/proc")
    syscalls.capset(_SYS_PTRACE, _SYS_PTRACE, 0)
    serve(call.fds[0], None, answer)


def answer(call: Call) -> None:
    """Answer a socketcall that the filter hands over; the working directory is /proc.

    Raises:
        OSError: what the caller is to be told, if it has not been.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _answer(call)
        except OSError as error:
            call.fail(error.errno or errno.EIO)
        except CallGone:
            pass
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    call.fail(errno.EIO)  # It has an answer, unless that process was killed.


def _answer(call: Call) -> None:
    number, address = call.args[0] & 0xFFFFFFFF, call.args[1] & 0xFFFFFFFF
    if number == SYS_SOCKET:
        _socket(call, *struct.unpack("=3i", call.memory(address, 12)))
    else:
        _setsockopt(call, *struct.unpack("=3iIi", call.memory(address, 20)))


def _socket(call: Call, family: int, kind: int, protocol: int) -> None:
    if family not in FAMILIES or (family in INTERNET and kind & TYPE_MASK in (RAW, PACKET)):
        raise OSError(errno.EPERM, "")
    made = syscalls.socket(family, kind | os.O_CLOEXEC, protocol)
    call.check()
    call.hand_over(made, cloexec=bool(kind & os.O_CLOEXEC))


def _setsockopt(call: Call, number: int, level: int, name: int, address: int, size: int) -> None:
    if any(level == forging and name in names for forging, names in FORGING):
        raise OSError(errno.EPERM, "")
    if name not in _OPTIONS.get(level, ()):
        raise OSError(errno.ENOPROTOOPT, "")
    if not 0 <= size <= _MOST_BYTES:
        raise OSError(errno.EINVAL, "")
    value = call.memory(address, size) if size else b""
    if level == _SOL_SOCKET and name in _TIMEOUTS and size == 8:
        value = struct.pack("=2q", *struct.unpack("=2i", value))
    syscalls.setsockopt(_copy(call, number), level, name, value)
    call.succeed()


def _copy(call: Call, number: int) -> int:
    """Return a descriptor of ours for one of the caller's.

    Raises:
        OSError: EBADF, it has none.
    """
    leader = 0
    with open(f"{call.tid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Tgid:"):
                leader = int(line.split()[1])
    pidfd = os.pidfd_open(leader)
    try:
        call.check()  # so that it is the caller whom we have got hold of
        return syscalls.pidfd_getfd(pidfd, number)
    finally:
        os.close(pidfd)
