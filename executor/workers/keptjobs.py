"""Workers that have done a call and stay for the next: forking one is half of a short call.

They wait as long as builds ask again, and a moment longer. Whoever does not come back finds none:
nothing of ours waits for a caller that may never come.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

from pybuild.executor.zygote import wire

if TYPE_CHECKING:
    from pybuild.executor.workers.job import RunningJob

_MOST = 4
_IDLE_SECONDS = 0.5


class KeptJobs:
    """The waiting workers of one zygote."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, RunningJob]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, request: Any) -> RunningJob | None:
        """Ask the one that waits for the shortest time, whose memory is warm; None: none does.

        One that would have to import the function's module first is not asked: a new one has it from
        the zygote, which imports it once for all.
        """
        function: str = request[0]
        for place in reversed(self._waiting):
            job = place[1]
            if function not in job.functions:
                continue
            self._waiting.remove(place)
            if _waits(job):
                job.unsent = wire.frame(request)
                job.send()
                return job
            job.channel.close()
        return None

    def keep(self, job: RunningJob) -> None:
        """Have *job* wait; it ends by itself when its channel does."""
        if len(self._waiting) >= _MOST:
            job.channel.close()
            return
        self._waiting.append((time.monotonic(), job))
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_IDLE_SECONDS, self._dismiss_idle)

    def dismiss_all(self) -> None:
        """Let all of them end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            self._waiting.pop()[1].channel.close()

    def _dismiss_idle(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._waiting and now - self._waiting[0][0] >= _IDLE_SECONDS:
            self._waiting.pop(0)[1].channel.close()
        if self._waiting:
            due = self._waiting[0][0] + _IDLE_SECONDS - now
            self._timer = asyncio.get_running_loop().call_later(due, self._dismiss_idle)


def _waits(job: RunningJob) -> bool:
    """Whether a worker is there still. Its channel ends with it, before the zygote tells of that."""
    try:
        job.channel.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return not job.gone.done()
    except OSError:
        pass
    return False
