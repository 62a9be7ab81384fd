"""A step's process that is made before anybody asks for the step.

More than half of what such a process does is the same for each step: the namespaces, its cgroups, the
`StagedRoot`. Where one step follows another, the zygote has the next one's process do this while the
present one runs, and gives it the job when that comes. A step that asks for anything unusual gets a
process of its own, as do the first ones: a build of one step would have a spare one made for nobody.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

from pybuild.executor.zygote import cgroups, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.steps.spec import StepKind
    from pybuild.executor.zygote.connections import StepNetwork

# Steps that came before one is worth making, of which there is hardly ever just one more.
_AFTER = 2
_MOST_FDS = 4
_SIGKILL = 9


class Spare:
    """One such process. For the zygote.

    Attributes:
        kind: of the steps that it can be for.
        is_dismissed: it was told to end.
        store_fd: as from `stage.Anchor`.
        connected: the network namespace that it is in, if its kind has one.
    """

    def __init__(
        self,
        kind: StepKind,
        leaf: cgroups.Leaf,
        store_fd: int,
        connected: StepNetwork | None = None,
    ) -> None:
        self.kind = kind
        self.is_dismissed = False
        self.store_fd = store_fd
        self.leaf = leaf
        self.connected = connected
        self.ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.pid = self.pidfd = -1

    def is_alive(self) -> bool:
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return not poller.poll(0)

    def dismiss(self) -> None:
        """Have it end, without waiting for that."""
        self.is_dismissed = True
        try:
            syscalls.pidfd_send_signal(self.pidfd, _SIGKILL)
        except OSError:
            pass  # it has

    def hand(self, fds: list[int]) -> None:
        """Give it a job's descriptors.

        Raises:
            OSError: it is gone.
        """
        packed = struct.pack(f"={len(fds)}i", *fds)
        self.ours.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
        self.ours.close()

    def receive(self) -> list[int]:
        """Wait for them. For the process itself.

        Raises:
            EOFError: the zygote does not want us any more.
        """
        space = _socket.CMSG_SPACE(_MOST_FDS * 4)
        data, ancillary, _, _ = self.theirs.recvmsg(1, space, _socket.MSG_CMSG_CLOEXEC)
        self.theirs.close()
        if not data:
            raise EOFError
        (_, _, packed), *_ = ancillary
        return list(struct.unpack(f"={len(packed) // 4}i", packed))


class Wish:
    """Whether a spare process is worth making, and for which kind of step."""

    def __init__(self) -> None:
        # With one processor it would be made in the present step's time.
        self._possible = len(os.sched_getaffinity(0)) > 1
        self._kind: StepKind | None = None
        self._failed: StepKind | None = None
        self._seen = 0

    def note(self, kind: StepKind, *, usual: bool) -> None:
        """Note a step that was started."""
        self._seen = self._seen + 1 if usual and kind == self._kind else int(usual)
        self._kind = kind

    def at_once(self, steps: int) -> int:
        """Return the number of processes that so many steps, one after the other, have at the same time."""
        return 2 if self._possible and steps > _AFTER else 1

    def kind(self) -> StepKind | None:
        is_due = self._possible and self._seen >= _AFTER and self._kind != self._failed
        return self._kind if is_due else None

    def forget(self) -> None:
        """Wish for none until steps follow each other again: a build has ended."""
        self._seen = 0

    def give_up(self, kind: StepKind) -> None:
        """Make no more of a kind: one has failed, and the next step can tell people why.

        Others go on, whose builds may be other people's: the limits of this one may be to blame.
        """
        self._failed = kind
