"""Files of a container that the engine made, changed while it runs: /etc/hosts and /etc/resolv.conf [NET-10]."""

from __future__ import annotations

import os
import stat

from pybuild.executor.zygote import confined, procstatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_BYTES = 1 << 20


def rewrite(pid: int, path: str, change: Callable[[str], str]) -> bool:
    """Change a file as process *pid* sees it; False: it is not there, or cannot be written.

    It is looked for inside the container's tree, whatever links that has, and is never made.
    """
    try:
        root = os.open(
            f"/proc/{procstatus.inner(pid)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        )
        try:
            fd = confined.open_in(root, path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        finally:
            os.close(root)
    except OSError:
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        before = os.pread(fd, _MOST_BYTES, 0).decode("utf-8", "surrogateescape")
        after = change(before)
        if after != before:
            data = after.encode("utf-8", "surrogateescape")
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
