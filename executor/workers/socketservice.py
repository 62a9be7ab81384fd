"""Answers the socketcalls of a step's 32-bit programs, in the main process (`executor.zygote.socketcalls`).

The step's filter hands them to a descriptor that comes with the word that the step is ready. Most steps
have no such program, and cost a reader of the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select

_PROC = "/proc/"


class SocketService:
    """Serves the listener of one step until its last task has ended, or `close`.

    Args:
        fd: the listener, ours from now on.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._serve)

    def close(self) -> None:
        """Let further calls fail with ENOSYS; idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        events = poller.poll(0)
        if not events:
            return
        if not events[0][1] & select.POLLIN:
            self.close()
            return
        from pybuild.executor.zygote import socketcalls
        from pybuild.executor.zygote.recorder.peer import Call, Gone

        try:
            call = Call(self._fd, None)
        except OSError:
            return  # its task was killed meanwhile
        try:
            socketcalls.answer(call, _PROC)
        except OSError as error:
            call.fail(error.errno or errno.EIO)
        except Gone:
            pass
