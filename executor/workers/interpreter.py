"""A copy of our interpreter for the process that forks steps.

While a step's first program is started, ``/proc/self/exe`` in the step is still the interpreter
that starts it. An image that asks for exactly that (as a path, behind a link, as a script's
interpreter) gets hold of the file, and as its owner may change its mode or put other bytes into it
once nobody runs it [SBX-21]. So that process runs a sealed copy in memory, which nobody else has.
"""

from __future__ import annotations

import fcntl
import os
import sys

from pybuild.executor.zygote.faults import describe_os_error
from pybuild.model.errors import EnvironmentFault

_MFD_EXEC = 0x10  # since Linux 6.3; os has no name for it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def copy_interpreter() -> int:
    """Return a descriptor of the copy, to be run as ``/proc/PID/fd/N`` of this process.

    Raises:
        EnvironmentFault: it cannot be made.
    """
    try:
        with open(sys.executable, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            try:
                return _in_memory(source.fileno(), size)
            except OSError:  # such memory may not be run, by vm.memfd_noexec
                return _on_disk(source.fileno(), size)
    except OSError as error:
        raise EnvironmentFault(
            describe_os_error(error, "cannot copy the interpreter for steps")
        ) from error


def library_path() -> str:
    """Return where an interpreter looks for its libraries that finds them relative to itself."""
    directory = os.path.dirname(os.path.realpath(sys.executable))
    return os.path.join(os.path.dirname(directory), "lib")


def _in_memory(source: int, size: int) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("pybuild-steps", flags | _MFD_EXEC)
    except OSError:
        fd = os.memfd_create("pybuild-steps", flags)
    try:
        _copy(source, fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        if not os.access(f"/proc/self/fd/{fd}", os.X_OK):
            raise PermissionError(f"/proc/self/fd/{fd}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _on_disk(source: int, size: int) -> int:
    """Copy to a file without a name; what becomes of that one does not matter to anybody."""
    import tempfile

    writable, path = tempfile.mkstemp(prefix="pybuild-steps-")
    try:
        _copy(source, writable, size)
        os.fchmod(writable, 0o500)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
        os.unlink(path)


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        done = os.sendfile(target, source, at, size - at)
        if not done:
            raise OSError(5, "the interpreter became shorter while it was read")
        at += done
