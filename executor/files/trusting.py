"""An authority in the bundle of trusted ones of a step's tree, for the time of the step. In workers.

It is written into the file itself: a file that is mounted there could not be replaced, which whoever
installs further authorities in the step does.
"""

from __future__ import annotations

import os
import stat

from pybuild.executor.files.apply import Mounts
from pybuild.executor.zygote import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall

BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "etc/ssl/ca-bundle.pem",  # SUSE
    "etc/pki/tls/cacert.pem",  # OpenELEC
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # CentOS
    "etc/ssl/cert.pem",  # Alpine, macOS
)
_MOST_BYTES = 10 << 20
_BEGIN, _END = b"\n# buildkit proxy CA begin\n", b"# buildkit proxy CA end\n"
"""The lines around it are BuildKit's, by which steps may find it."""
_WAYS = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_STRAIGHT = _WAYS | syscalls.RESOLVE_NO_SYMLINKS
_READ = os.O_RDONLY | os.O_NONBLOCK


def add(
    call: WorkerCall, mount_dir: str, lowers: Sequence[str], upper: str, work: str, pem: str
) -> str:
    """Append *pem* to the first bundle in the tree of *lowers* and *upper*; return its path, "": there is none.

    Args:
        mount_dir: an empty directory to mount on; the mount namespace has to be private.
        work: a directory that is not there yet, on the file system of *upper*.

    Raises:
        OSError: it cannot be written.
    """
    os.mkdir(work, 0o700)
    with Mounts(mount_dir) as mounts:
        place = mounts.overlay(lowers, upper, work)
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in BUNDLES:
                try:
                    fd = syscalls.openat2(root, name, os.O_RDWR | os.O_NONBLOCK, _WAYS)
                except OSError:
                    continue  # it is not there, or is none
                try:
                    status = os.fstat(fd)
                    if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                        continue
                    path = os.readlink(f"/proc/self/fd/{fd}").removeprefix(place).lstrip("/")
                    os.lseek(fd, 0, os.SEEK_END)
                    _write(fd, _BEGIN + pem.encode() + _END)
                    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
                    return path
                finally:
                    os.close(fd)
        finally:
            os.close(root)
    return ""


def remove(call: WorkerCall, mount_dir: str, lowers: Sequence[str], upper: str, path: str) -> None:
    """Undo `add` in *upper*, whatever else the step did there to the file *path*.

    A file that is as it was before is not in *upper* afterwards, nor are its directories.
    """
    root = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fd = syscalls.openat2(root, path, os.O_RDWR | os.O_NONBLOCK, _STRAIGHT)
        except OSError:
            return  # the step removed it, or put something else in its place
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > 2 * _MOST_BYTES:
                return
            text = _read_all(fd)
            first, begin, rest = text.partition(_BEGIN)
            _, end, last = rest.partition(_END)
            if not (begin and end):
                return
            before = _before(mount_dir, lowers, path)
            if before is not None and _is_same(before, status, first + last):
                _take_away(upper, path)
                return
            os.lseek(fd, 0, os.SEEK_SET)
            _write(fd, first + last)
            os.ftruncate(fd, len(first + last))
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)
    finally:
        os.close(root)


def _before(
    mount_dir: str, lowers: Sequence[str], path: str
) -> tuple[os.stat_result, bytes] | None:
    """Return the file as it was before the step."""
    with Mounts(mount_dir) as mounts:
        root = os.open(mounts.overlay(lowers), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = syscalls.openat2(root, path, _READ, _STRAIGHT)
        except OSError:
            return None
        finally:
            os.close(root)
        try:
            return os.fstat(fd), _read_all(fd)
        finally:
            os.close(fd)


def _is_same(before: tuple[os.stat_result, bytes], now: os.stat_result, text: bytes) -> bool:
    then, content = before
    return content == text and all(
        getattr(then, name) == getattr(now, name)
        for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns")
    )


def _take_away(upper: str, path: str) -> None:
    os.unlink(f"{upper}/{path}")
    while path := os.path.dirname(path):
        try:
            os.rmdir(f"{upper}/{path}")
        except OSError:
            return  # the step left something there


def _read_all(fd: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    parts: list[bytes] = []
    while data := os.read(fd, 1 << 20):
        parts.append(data)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
