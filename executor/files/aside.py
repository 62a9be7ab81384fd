"""One large file's bytes, copied by a second thread while ours goes on with the files after it.

The kernel copies, which takes one processor and neither lock nor memory of ours: two large files take
the time of one. What is made of the file, its attributes, is left to our thread. Lean: runs in workers.
"""

from __future__ import annotations

import _thread
import os

from pybuild.executor.files.content import copy_content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    End = Callable[[int, int, int], None]

LARGE_BYTES = 4 << 20
"""A smaller file is copied sooner than a thread starts, near enough."""


class Aside:
    """At most one copy at a time. A context, at whose end nothing is being copied any more."""

    def __init__(self) -> None:
        self._end: End | None = None
        self._where = ""
        self._source = self._target = -1
        self._copied = 0
        self._error: BaseException | None = None
        self._working = _thread.allocate_lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.settle()
        else:
            self._abandon()

    def take(self, source: int, target: int, status: os.stat_result, where: str, end: End) -> bool:
        """Copy *source* to the empty *target* meanwhile; False: do it yourself.

        Args:
            status: of the source.
            where: the target's path in its tree, for errors.
            end: called by our own thread, later: with descriptors of the same two files, and how many
                bytes the source had.
        """
        if status.st_size < LARGE_BYTES:
            return False
        if self._end is not None:
            if self._working.locked():
                return False
            self.settle()
        self._source, self._target = os.dup(source), os.dup(target)
        self._where, self._end, self._error = where, end, None
        self._working.acquire()
        try:
            _thread.start_new_thread(self._copy, (status,))
        except RuntimeError:  # as many threads as this user may have
            self._working.release()
            self._abandon()
            return False
        return True

    def settle(self) -> None:
        """Wait for what is copied, and end it.

        Raises:
            what copying or ending it did.
        """
        end, self._end = self._end, None
        if end is None:
            return
        try:
            with self._working:
                pass
            if self._error is not None:
                raise self._error
            end(self._source, self._target, self._copied)
        except OSError as error:
            if error.filename is None:
                error.filename = "/" + self._where
            raise
        finally:
            self._close()

    def _abandon(self) -> None:
        """Wait for what is copied, and forget it."""
        if self._end is not None:
            self._end = None
            with self._working:
                pass
            self._close()

    def _copy(self, status: os.stat_result) -> None:
        try:
            self._copied = copy_content(self._source, self._target, status)
        except BaseException as error:  # noqa: BLE001 - raised where it is settled
            self._error = error
        self._working.release()

    def _close(self) -> None:
        os.close(self._source)
        os.close(self._target)
