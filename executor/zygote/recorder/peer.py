"""One system call that waits for an answer, and the task that made it.

What a call points to is read from the task's memory once; then the kernel is asked whether the
call still waits, and only then what was read, and what was opened through ``/proc/<tid>``, counts:
a thread number that was given to somebody else meanwhile is noticed. Paths are resolved by the
kernel from descriptors, below the root of the step, which is our own; what is acted on is the
object behind an O_PATH descriptor, never a path for a second time.

The working directory must be the host's /proc, and the root the step's where paths are looked up.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import select
import struct

from pybuild.executor.zygote import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_STILL_VALID = 0x40082102
_ADD_FD = 0x40182103
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1  # SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_ADD_FD_SEND = 2
_NOTICE = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_EMPTY = bytes(_NOTICE.size)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
_PATH_MAX = 4096
_PAGE = 4096

_process_vm_readv = ctypes.PyDLL(None, use_errno=True).process_vm_readv
_process_vm_readv.restype = ctypes.c_ssize_t
_process_vm_readv.argtypes = [
    *(ctypes.c_int, ctypes.c_char_p, ctypes.c_ulong),
    *(ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong),
]
_buffer = ctypes.create_string_buffer(_PATH_MAX)
_local = struct.Struct("@PN")


def hasten(listener: int) -> None:
    """Have tasks and their recorder wake each other on the same processor: it halves the wait."""
    try:
        fcntl.ioctl(listener, _SET_FLAGS, struct.pack("=Q", _SYNC_WAKE_UP))
    except OSError:
        pass  # before Linux 6.6


def serve(listener: int, roots: Roots | None, answer: Callable[[Call], None]) -> None:
    """Have calls answered until the last task that is listened to is gone.

    Args:
        roots: as for `Call`.
        answer: raises OSError to let the call fail, or CallGone.
    """
    hasten(listener)
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    while True:
        for _, event in poller.poll():
            if not event & select.POLLIN:
                return
            try:
                call = Call(listener, roots)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            try:
                answer(call)
            except OSError as error:
                call.fail(error.errno or errno.EIO)
            except (ValueError, OverflowError):
                call.fail(errno.EINVAL)  # a number that fits no C type of the call's
            except CallGone:
                pass


class CallGone(Exception):
    """The call waits no longer: the task was killed or interrupted."""


class Call:
    """A waiting call.

    Attributes:
        tid: the thread, as the host numbers it.
        arch, number: which call; *args*: its six arguments as unsigned numbers.
    """

    __slots__ = ("_id", "_listener", "_roots", "arch", "args", "number", "tid")

    def __init__(self, listener: int, roots: Roots | None) -> None:
        """Take the next call.

        Args:
            roots: None where no path of a call will be looked up.

        Raises:
            OSError: ENOENT or EINTR, there is none after all.
        """
        data = fcntl.ioctl(listener, _RECEIVE, _EMPTY)
        self._listener = listener
        self._roots = roots
        self._id, self.tid, _, self.number, self.arch, _, *self.args = _NOTICE.unpack(data)

    # --- answers ----------------------------------------------------------------------------------

    def proceed(self) -> None:
        """Let the kernel do it, by its own rules, on what the arguments say by then."""
        self._send(0, 0, _CONTINUE)

    def succeed(self, value: int = 0) -> None:
        self._send(value, 0, 0)

    def fail(self, code: int) -> None:
        self._send(0, -code, 0)

    def _send(self, value: int, code: int, flags: int) -> None:
        try:
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(self._id, value, code, flags))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise

    def hand_over(self, fd: int, *, cloexec: bool) -> None:
        """Succeed with a copy of *fd* as the task's new descriptor."""
        flags = os.O_CLOEXEC if cloexec else 0
        request = struct.pack("=QIIII", self._id, _ADD_FD_SEND, fd, 0, flags)
        try:
            fcntl.ioctl(self._listener, _ADD_FD, request)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise CallGone from error
            raise

    def check(self) -> None:
        """Raise CallGone unless the call still waits: what was read before is then the task's."""
        try:
            fcntl.ioctl(self._listener, _STILL_VALID, struct.pack("=Q", self._id))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise CallGone from error
            raise

    # --- memory -----------------------------------------------------------------------------------

    def memory(self, address: int, size: int) -> bytes:
        """Read *size* bytes. EFAULT where they are not all there."""
        data = b""
        while len(data) < size:
            piece = self._read(address + len(data), min(size - len(data), _PATH_MAX))
            data += piece
        return data

    def text(self, address: int, limit: int = _PATH_MAX) -> bytes:
        """Read a string up to its NUL.

        Raises:
            OSError: EFAULT; ENAMETOOLONG.
        """
        data = b""
        while len(data) < limit:
            # Not across a page: the next may not be there, and need not.
            step = min(_PAGE - (address + len(data)) % _PAGE, limit - len(data))
            data += self._read(address + len(data), step)
            end = data.find(b"\0")
            if end >= 0:
                return data[:end]
        raise OSError(errno.ENAMETOOLONG, "")

    def _read(self, address: int, size: int) -> bytes:
        if not address:
            raise OSError(errno.EFAULT, "")
        local = _local.pack(ctypes.addressof(_buffer), size)
        remote = _local.pack(address & (1 << 64) - 1, size)
        count = _process_vm_readv(self.tid, local, 1, remote, 1, 0)
        if count <= 0:
            code = ctypes.get_errno()
            if code == errno.ESRCH:
                raise CallGone
            raise OSError(errno.EFAULT, "")
        return _buffer.raw[:count]

    def store(self, address: int, data: bytes) -> None:
        """Write into the task's memory.

        Raises:
            OSError: EFAULT.
        """
        try:
            fd = os.open(f"{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise CallGone from error
        try:
            self.check()  # It is this task's memory that is open, and stays so.
            if os.pwrite(fd, data, address) != len(data):
                raise OSError(errno.EFAULT, "")
        except (OverflowError, OSError) as error:
            raise OSError(errno.EFAULT, "") from error
        finally:
            os.close(fd)

    # --- files ------------------------------------------------------------------------------------

    def own_fd(self, number: int) -> int:
        """Open what the task's descriptor stands for, as O_PATH. EBADF."""
        number = signed(number)
        if number == AT_FDCWD:
            where = f"{self.tid}/cwd"
        elif number < 0:
            raise OSError(errno.EBADF, "")
        else:
            where = f"{self.tid}/fd/{number}"
        try:
            return os.open(where, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise OSError(errno.EBADF, "") from error

    def find(self, dir_fd: int, path: bytes, *, follow: bool, empty: bool = False) -> int:
        """Return an O_PATH descriptor of what a path means to the task.

        Args:
            dir_fd: the task's number of a directory, or AT_FDCWD.
            empty: an empty path means *dir_fd* itself.
        """
        if not path:
            if not empty:
                raise OSError(errno.ENOENT, "")
            return self.own_fd(dir_fd)
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        return self.open(dir_fd, path, flags)

    def open(self, dir_fd: int, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
        """Open by the task's path. Magic links lead to the task's own descriptors only."""
        assert self._roots is not None
        self._roots.enter(self.tid)
        base = syscalls.AT_FDCWD if path.startswith(b"/") else self.own_fd(dir_fd)
        try:
            return _openat2(base, path, flags, mode, resolve | syscalls.RESOLVE_NO_MAGICLINKS)
        except OSError as error:
            number = _descriptor(path) if error.errno in (errno.ELOOP, errno.ENOENT) else None
            if number is None or not flags & os.O_PATH or flags & os.O_NOFOLLOW:
                raise
            return self.own_fd(number)
        finally:
            if base >= 0:
                os.close(base)

    def parent(self, dir_fd: int, path: bytes) -> tuple[int, bytes]:
        """Return an O_PATH descriptor of the directory of *path*, and the name in it.

        Raises:
            OSError: EINVAL, the path does not end in a name, so nothing can be made there.
        """
        above, slash, name = path.rpartition(b"/")
        if name in (b"", b".", b".."):
            raise OSError(errno.EINVAL, "")
        directory = os.O_PATH | os.O_DIRECTORY
        if not slash:
            return self.open(dir_fd, b".", directory), name
        return self.open(dir_fd, above or b"/", directory), name

    def umask(self) -> int:
        with open(f"{self.tid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
        return 0o022


class Roots:
    """Keeps our root where the calling task's is; only after a chroot can they differ."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._here = _identity(root_fd)
        self.watch = False

    def enter(self, tid: int) -> None:
        if not self.watch:
            return
        fd = os.open(f"{tid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            there = _identity(fd)
            if there != self._here:
                change_root(fd)
                self._here = there
        finally:
            os.close(fd)


def change_root(fd: int) -> None:
    """Make the directory our root; the working directory stays."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(fd)
        os.chroot(".")
        os.fchdir(here)
    finally:
        os.close(here)


_syscall = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long]
_HOW = struct.Struct("=3Q")


def _openat2(base: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """Do what `syscalls.openat2` does in half the time: it is the bulk of most answers."""
    how = _HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    fd: int = _syscall(437, base, path, how, 24)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "")
    return fd


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def signed(number: int) -> int:
    """Return an argument as the C int that it is."""
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number & 0x80000000 else number


def _descriptor(path: bytes) -> int | None:
    """Return the own descriptor that a task names by a path in /proc or /dev."""
    known = {b"/dev/stdin": 0, b"/dev/stdout": 1, b"/dev/stderr": 2}
    if path in known:
        return known[path]
    for prefix in (b"/dev/fd/", b"/proc/self/fd/", b"/proc/thread-self/fd/"):
        if path.startswith(prefix) and path[len(prefix) :].isdigit():
            return int(path[len(prefix) :])
    return None


def magic(fd: int) -> str:
    """Return a path that means the object behind *fd*, for calls that take no O_PATH descriptor."""
    return f"self/fd/{fd}"
