"""Replacing a small file whole, or not at all; lean, for processes of which there is one a container."""

from __future__ import annotations

import os

from pybuild.image.layer.writing import write_all


def replace_file(name: str, data: bytes, *, at: int | None = None, flush: bool = False) -> None:
    """Have the file *name* hold *data*; who reads it meanwhile has the one or the other.

    Args:
        at: the directory that *name* is in, open.
        flush: it is to outlast the machine's end, too.

    Raises:
        OSError: it cannot be written; the file is as it was.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    made = f"{name}.{os.urandom(4).hex()}"  # whoever else writes it has a file of their own
    try:
        fd = os.open(made, flags, 0o600, dir_fd=at)
        try:
            write_all(fd, data)
            if flush:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(made, name, src_dir_fd=at, dst_dir_fd=at)
    except OSError:
        try:
            os.unlink(made, dir_fd=at)
        except OSError:
            pass  # it had not come to that, or it goes with the directory
        raise


def unlink_if_there(name: str, *, at: int) -> None:
    """Remove the file *name* of the directory *at*, which is open.

    Raises:
        OSError: it is there still.
    """
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        pass
