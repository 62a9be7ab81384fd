"""Output that was read and may not be in the log yet, in a file: whoever reads it may be killed at any moment [MON-6].

The kernel moves output from its pipe into the file in one call, so that a kill finds it in the one or the
other. The file's head says what the write to the log that came last was: by the log's size the next reader
knows whether that was done, and so what is still to be written.

    head    inode of the log, its size before that write, the bytes of it; where what is not in the log
            begins, before it and after it
    output  from `_BEGIN` on
"""

from __future__ import annotations

import errno
import os
import struct

from pybuild.cache.disk.replacing import unlink_if_there
from pybuild.image.layer.writing import write_all

_HEAD = struct.Struct("=5Q")
_BEGIN = 64
_MOST_LOGGED_BYTES, MOST_BYTES = 1 << 16, 1 << 20
"""So large the file may grow before it begins anew, once all is in the log; and in any case."""
_NEW = ".new"
_PIECE_BYTES = 1 << 16


class UnloggedOutput:
    """The unlogged output of one stream of a container.

    Args:
        home: the container's directory, open.
        name: of the file in it.

    Attributes:
        fd: the file; -1: there is none so far.
    """

    def __init__(self, home: int, name: str) -> None:
        self._home = home
        self._name = name
        self.fd = -1
        self._start: int = _BEGIN
        self._end: int = _BEGIN
        self._is_kept = True

    def recover(self, log: int) -> bytes:
        """Return the output that another reader has left unlogged; a write that it had not finished is undone.

        Raises:
            OSError: the disk is full or broken.
        """
        try:
            self.fd = os.open(
                self._name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._home
            )
        except FileNotFoundError:
            return b""
        self._end = max(_BEGIN, os.fstat(self.fd).st_size)
        head = os.pread(self.fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return b""
        inode, before, length, start, after = _HEAD.unpack(head)
        status = os.fstat(log)
        self._start = after
        if status.st_ino == inode and status.st_size < before + length:
            if status.st_size <= before:
                self._start = start
            elif os.pread(log, 1, status.st_size - 1) != b"\n":  # else others have written since
                os.ftruncate(log, before)
                self._start = start
        self._start = max(
            _BEGIN, min(self._start, self._end)
        )  # a head that is all zeros: none was written
        return os.pread(self.fd, self._end - self._start, self._start)

    def take(self, pipe: int) -> bytes:
        """Return a piece of output from a pipe; it is kept here from the moment on that it is there no more.

        Raises:
            BlockingIOError: there is nothing.
        """
        if self._is_kept:
            try:
                return self._moved(pipe)
            except BlockingIOError:
                raise
            except OSError as error:  # the disk is full, or of a kind that cannot do that
                self._is_kept = error.errno == errno.ENOSPC
        data = os.read(pipe, _PIECE_BYTES)
        self._start = self._end  # what came before cannot be told from what is missing here
        return data

    def _moved(self, pipe: int) -> bytes:
        if self.fd < 0:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self.fd = os.open(self._name, flags, 0o600, dir_fd=self._home)
        if self._start == self._end >= _MOST_LOGGED_BYTES:
            os.ftruncate(self.fd, _BEGIN)
            self._start = self._end = _BEGIN
            self.note(0, 0, 0, 0)
        elif self._end >= MOST_BYTES:
            self._begin_anew()
        flags = os.SPLICE_F_NONBLOCK
        count = os.splice(pipe, self.fd, _PIECE_BYTES, offset_dst=self._end, flags=flags)
        data = os.pread(self.fd, count, self._end)
        self._end += count
        return data

    def _begin_anew(self) -> None:
        """Go on in another file, with what is not in the log yet: the begin of a line, where output never pauses."""
        rest = os.pread(self.fd, self._end - self._start, self._start)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._name + _NEW, flags, 0o600, dir_fd=self._home)
        try:
            write_all(fd, _HEAD.pack(0, 0, 0, _BEGIN, _BEGIN).ljust(_BEGIN, b"\0") + rest)
            os.rename(self._name + _NEW, self._name, src_dir_fd=self._home, dst_dir_fd=self._home)
        except BaseException:
            os.close(fd)
            raise
        os.close(self.fd)
        self.fd = fd
        self._start = _BEGIN
        self._end = _BEGIN + len(rest)

    def note(self, inode: int, before: int, length: int, count: int) -> None:
        """Note that *length* bytes are about to be written to the log, whose size is *before*.

        Args:
            count: of the bytes of output that are in the log then.
        """
        start = self._start
        self._start = min(start + count, self._end)
        if self.fd >= 0:
            try:
                os.pwrite(self.fd, _HEAD.pack(inode, before, length, start, self._start), 0)
            except OSError:
                pass  # on a full disk, the next reader may write twice what was written

    def remove(self) -> None:
        """Remove the file: all is in the log."""
        if self.fd >= 0:
            for name in (self._name, self._name + _NEW):
                unlink_if_there(name, at=self._home)
            os.close(self.fd)
            self.fd = -1
        self._start = self._end = _BEGIN
        self._is_kept = True
