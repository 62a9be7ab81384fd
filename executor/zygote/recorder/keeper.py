"""The zygote's side of recorders: starts one beside each step and waits for both to end."""

from __future__ import annotations

import _socket
import os

from pybuild.executor.zygote import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pybuild.executor.steps.spec import StepExit


class Link:
    """A pair of sockets between a step and its recorder; none where nothing is recorded."""

    def __init__(self, is_recorded: bool) -> None:
        self.ends: tuple[_socket.socket, _socket.socket] | None = None
        if is_recorded:
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

    def __init__(self, say: Callable[[str, StepExit], None], kill: Callable[[str], None]) -> None:
        self._say = say
        self._kill = kill
        self._living: dict[int, tuple[str, int]] = {}
        self._statuses: dict[str, int] = {}
        self._ended: dict[str, StepExit] = {}  # steps whose recorders have not

    def __len__(self) -> int:
        return len(self._living)

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
        ended = self._ended.pop(job, None)
        if ended is not None:
            self._say(job, _with_status(ended, status))
        else:
            self._statuses[job] = status
            if status:
                self._kill(job)  # What it does from now on would not be recorded.
        return True

    def report(self, job: str, ended: StepExit) -> None:
        """Tell of a step's end when its recorder has ended too: only then is all written down."""
        if any(job == of for of, _ in self._living.values()):
            self._ended[job] = ended
        else:
            self._say(job, _with_status(ended, self._statuses.pop(job, 0)))

    def wait_all(self) -> None:
        """Wait for all: what they listen to is gone."""
        for _, pid in self._living.values():
            try:
                os.waitpid(pid, 0)
            except OSError:
                pass


def _with_status(ended: StepExit, status: int) -> StepExit:
    return ended._replace(status=wire.RECORDER_FAILED) if status else ended
