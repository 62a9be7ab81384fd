"""The kernel calls that Python does not offer, each raising OSError with errno.

``PyDLL`` keeps the interpreter lock during a call: the zygote has one thread, so letting go of it
would only cost time, and a raw clone must not happen while somebody else might hold it.
Numbers are those of x86_64 and aarch64; calls added since Linux 5.1 have one number everywhere.
"""

from __future__ import annotations

import ctypes
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signals
else:
    import _signal as _signals

MACHINE = os.uname().machine

_BY_MACHINE = {
    "x86_64": {"capset": 126, "pivot_root": 155, "keyctl": 250, "seccomp": 317},
    "aarch64": {"capset": 91, "pivot_root": 41, "keyctl": 219, "seccomp": 277},
}
_NUMBERS = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
    **_BY_MACHINE.get(MACHINE, {}),
}

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
AT_RECURSIVE = 0x8000

# clone3, unshare, setns
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

# mount(2)
MS_RDONLY = 1
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

# the mount API of file descriptors
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSCONFIG_CMD_RECONFIGURE = 7
FSPICK_CLOEXEC = 1
FSPICK_EMPTY_PATH = 8
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_STRICTATIME = 0x20

# openat2
_OPEN_TRIES = 1000
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# prctl
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
KEYCTL_JOIN_SESSION_KEYRING = 1

_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
# Numbers, bytes and None go as they are: to wrap each in an object takes as long as the call.
_MOST_ARGUMENTS = 6
_syscall.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * _MOST_ARGUMENTS]
_UNUSED = [(0,) * (_MOST_ARGUMENTS - count) for count in range(_MOST_ARGUMENTS + 1)]
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
# Looked up here, once for all children of a zygote: that takes longer than the calls.
_unshare, _umount2, _sethostname = _libc.unshare, _libc.umount2, _libc.sethostname

Path = str | bytes


def _raise(filename: Path | None = None) -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), filename)


def _call(name: str, *args: int | bytes | None, filename: Path | None = None) -> int:
    number = _NUMBERS.get(name)
    if number is None:
        raise OSError(38, f"no number for {name} on {MACHINE}")
    result: int = _syscall(number, *args, *_UNUSED[len(args)])
    if result < 0:
        _raise(filename)
    return result


def clone3(flags: int, exit_signal: int = 17, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """Fork into new namespaces; return ``(pid, pidfd)``, in the child ``(0, -1)``.

    Python's at-fork hooks do not run, which is right only in a single-threaded process.

    Args:
        cgroup_fd: a directory of cgroup version 2 that the child begins in.
    """
    pidfd = ctypes.c_int(-1)
    into = [0, 0, cgroup_fd] if cgroup_fd >= 0 else []
    flags |= CLONE_PIDFD | (CLONE_INTO_CGROUP if into else 0)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    # then set_tid, set_tid_size, cgroup. A null stack means: go on with this one, copied.
    args = struct.pack(
        f"={8 + len(into)}Q", flags, ctypes.addressof(pidfd), 0, 0, exit_signal, 0, 0, 0, *into
    )
    pid = _call("clone3", args, len(args))
    return (pid, pidfd.value) if pid else (0, -1)


MOST_FD = (1 << 32) - 1


def close_range(first: int, last: int) -> None:
    """Close all descriptors from *first* to *last*."""
    _call("close_range", first, last, 0)


def unshare(flags: int) -> None:
    if _unshare(ctypes.c_int(flags)) < 0:
        _raise()


def setns(fd: int, flags: int) -> None:
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) < 0:
        _raise()


def mount(source: Path, target: Path, fstype: str, flags: int, data: Path = b"") -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode(),
        ctypes.c_ulong(flags),
        os.fsencode(data) or None,
    )
    if result < 0:
        _raise(target)


def umount2(target: Path, flags: int = 0) -> None:
    if _umount2(os.fsencode(target), ctypes.c_int(flags)) < 0:
        _raise(target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    _call("pivot_root", os.fsencode(new_root), os.fsencode(put_old), filename=new_root)


def fsopen(fstype: str) -> int:
    return _call("fsopen", fstype.encode(), FSOPEN_CLOEXEC, filename=fstype)


def fsconfig_string(fs_fd: int, key: str, value: Path) -> None:
    try:
        _call("fsconfig", fs_fd, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    except OSError as error:
        error.filename = f"{key}={os.fsdecode(value)}"
        raise


def fsconfig_flag(fs_fd: int, key: str) -> None:
    _call("fsconfig", fs_fd, FSCONFIG_SET_FLAG, key.encode(), None, 0, filename=key)


def fsconfig_create(fs_fd: int) -> None:
    _call("fsconfig", fs_fd, FSCONFIG_CMD_CREATE, None, None, 0)


def remount_readonly(root_fd: int) -> None:
    """Make a whole file system read-only, by the root of a mount of it; EBUSY while one writes to it."""
    fs = _call("fspick", root_fd, b"", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH)
    try:
        fsconfig_flag(fs, "ro")
        _call("fsconfig", fs, FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    finally:
        os.close(fs)


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """Return a mount that is not attached anywhere yet, as a descriptor."""
    return _call("fsmount", fs_fd, FSMOUNT_CLOEXEC, attributes)


def open_tree(dir_fd: int, path: Path, flags: int = OPEN_TREE_CLONE) -> int:
    """Return a mount descriptor; with OPEN_TREE_CLONE a detached bind of *path*.

    An empty path means *dir_fd* itself.
    """
    flags |= OPEN_TREE_CLOEXEC | (AT_EMPTY_PATH if not path else 0)
    return _call("open_tree", dir_fd, os.fsencode(path), flags, filename=path or None)


def move_mount(mount_fd: int, target_fd: int, target: Path = b"") -> None:
    """Attach a detached mount on *target* below *target_fd*, or on *target_fd* itself."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if target else MOVE_MOUNT_T_EMPTY_PATH)
    _call(
        "move_mount",
        mount_fd,
        b"",
        target_fd,
        os.fsencode(target),
        flags,
        filename=target or None,
    )


def mount_setattr(mount_fd: int, set_: int, clear: int = 0, *, recursive: bool = False) -> None:
    attr = struct.pack("=4Q", set_, clear, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", mount_fd, b"", flags, attr, len(attr))


def openat2(dir_fd: int, path: Path, flags: int, resolve: int, mode: int = 0) -> int:
    """Open *path* below *dir_fd* under the rules of *resolve*; O_CLOEXEC is added.

    The kernel gives up on a ``..`` that must not leave its root whenever anything at all was renamed or
    mounted on the machine meanwhile (EAGAIN), and leaves it to its caller to try again.
    """
    how = struct.pack("=3Q", flags | os.O_CLOEXEC, mode, resolve)
    arguments = (dir_fd, os.fsencode(path), how, len(how))
    for _ in range(_OPEN_TRIES):
        try:
            return _call("openat2", *arguments, filename=path)
        except BlockingIOError:
            os.sched_yield()
    return _call("openat2", *arguments, filename=path)


def birth_ns(dir_fd: int, name: Path) -> int:
    """Return when the entry itself was made, -1 where the file system does not say."""
    buffer = ctypes.create_string_buffer(256)
    failed = _libc.statx(
        ctypes.c_int(dir_fd),
        os.fsencode(name),
        ctypes.c_int(_AT_SYMLINK_NOFOLLOW),
        ctypes.c_uint(_STATX_BTIME),
        buffer,
    )
    if failed < 0:
        _raise(name)
    # struct statx: the mask of what is there at 0, the time of birth at 80.
    (mask,) = struct.unpack_from("=I", buffer, 0)
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
    return int(seconds * 1_000_000_000 + nanoseconds) if mask & _STATX_BTIME else -1


def sethostname(name: str) -> None:
    data = name.encode()
    if _sethostname(data, ctypes.c_size_t(len(data))) < 0:
        _raise()


def setdomainname(name: str) -> None:
    data = name.encode()
    if _libc.setdomainname(data, ctypes.c_size_t(len(data))) < 0:
        _raise()


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    result: int = _prctl(option, arg2, arg3, arg4, arg5)
    if result < 0:
        _raise()
    return result


def capset(effective: int, permitted: int, inheritable: int) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "=6I",
        effective & low,
        permitted & low,
        inheritable & low,
        effective >> high,
        permitted >> high,
        inheritable >> high,
    )
    _call("capset", header, data)


def seccomp_filter(program: bytes, flags: int = 0) -> int:
    """Install a BPF program, 8 bytes an instruction, for this thread and what it becomes.

    Returns a descriptor where *flags* ask for a listener.
    """
    (address,) = struct.unpack("@P", ctypes.c_char_p(program))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    fprog = struct.pack("@HP", len(program) // 8, address)
    return _call("seccomp", SECCOMP_SET_MODE_FILTER, flags, fprog)


def landlock_create_ruleset(attributes: bytes, flags: int) -> int:
    """Return a ruleset's descriptor, or with flag 1 and no attributes the kernel's version."""
    return _call("landlock_create_ruleset", attributes or None, len(attributes), flags)


def landlock_restrict_self(ruleset_fd: int) -> None:
    _call("landlock_restrict_self", ruleset_fd, 0)


def join_session_keyring(name: str | None = None) -> None:
    """Leave the caller's keyrings behind for a new, empty session keyring."""
    _call("keyctl", KEYCTL_JOIN_SESSION_KEYRING, name.encode() if name else None)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    _signals.pidfd_send_signal(pidfd, signal)


def pidfd_getfd(pidfd: int, number: int) -> int:
    """Return a copy of a descriptor of another process, closed on exec."""
    return _call("pidfd_getfd", pidfd, number, 0)


def socket(family: int, kind: int, protocol: int) -> int:
    """Return a new socket, without what the socket module makes of it by default."""
    fd: int = _libc.socket(ctypes.c_int(family), ctypes.c_int(kind), ctypes.c_int(protocol))
    if fd < 0:
        _raise()
    return fd


def setsockopt(fd: int, level: int, name: int, value: bytes) -> None:
    if (
        _libc.setsockopt(*map(ctypes.c_int, (fd, level, name)), value, ctypes.c_uint(len(value)))
        < 0
    ):
        _raise()


def close_quietly(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass
