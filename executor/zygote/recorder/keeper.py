"""The zygote's side of recorders: starts one beside each step and waits for both to end."""

from __future__ import annotations

import _socket
import os

from pybuild.executor.zygote import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Report = tuple[Any, ...]


class Link:
    """A pair of sockets between a step and its recorder; none where nothing is recorded."""

    def __init__(self, wanted: bool) -> None:
        self.ends: tuple[_socket.socket, _socket.socket] | None = None
        if wanted:
            # Imported and worked out once, for all steps and recorders to come.
            from pybuild.executor.zygote import privileges
            from pybuild.executor.zygote.recorder import loop

            privileges.prepare_listening()
            loop.prepare()
            self.ends = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def for_step(self) -> _socket.socket | None:
        """Return the step's end, in the step's process."""
        if self.ends is None:
            return None
        self.ends[1].close()
        return self.ends[0]

    def for_recorder(self) -> _socket.socket:
        """Return the other end, in the recorder's process."""
        assert self.ends is not None
        self.ends[0].close()
        return self.ends[1]

    def close(self) -> None:
        for end in self.ends or ():
            end.close()


class Keeper:
    """The recorders that live, by pidfd.

    Args:
        say: tells the main process a step's end.
        kill: kills a job's process.
    """

    def __init__(self, say: Callable[[Report], None], kill: Callable[[str], None]) -> None:
        self._say = say
        self._kill = kill
        self._living: dict[int, tuple[str, int]] = {}
        self._statuses: dict[str, int] = {}
        self._reports: dict[str, Report] = {}

    def pidfds(self) -> tuple[int, ...]:
        return tuple(self._living)

    def add(self, job: str, pid: int) -> int:
        """Take over a recorder's process; return its pidfd."""
        pidfd = os.pidfd_open(pid)
        self._living[pidfd] = (job, pid)
        return pidfd

    def reap(self, pidfd: int) -> bool:
        """Handle the end of a recorder; False: it is none of them."""
        known = self._living.pop(pidfd, None)
        if known is None:
            return False
        job, pid = known
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(pidfd)
        report = self._reports.pop(job, None)
        if report is not None:
            self._say(_with_status(report, status))
        else:
            self._statuses[job] = status
            if status:
                self._kill(job)  # What it does from now on would not be recorded.
        return True

    def report(self, report: Report) -> None:
        """Tell of a step's end when its recorder has ended too: only then is all written down."""
        job = report[1]
        if any(job == of for of, _ in self._living.values()):
            self._reports[job] = report
        else:
            self._say(_with_status(report, self._statuses.pop(job, 0)))

    def wait_all(self) -> None:
        """Wait for all: what they listen to is gone."""
        for _, pid in self._living.values():
            try:
                os.waitpid(pid, 0)
            except OSError:
                pass


def _with_status(report: Report, status: int) -> Report:
    if not status:
        return report
    return (*report[:2], wire.RECORDER_FAILED, *report[3:])
