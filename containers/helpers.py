"""The helpers for networks of a container that runs, as its monitor has them: one after another.

One that was killed is followed by another; one that had nothing to do has left its descriptors, and
another begins when one of them is ready, or the container has ended.
"""

from __future__ import annotations

import os
import time
from functools import partial

from pybuild.containers.keeping import HELPER
from pybuild.containers.order import reconnected
from pybuild.containers.restarting import delay
from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import Fault
from pybuild.networks import pod
from pybuild.networks.helper import FIRST, Helper, is_left, wakes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pybuild.containers.loop import Loop, Timer
    from pybuild.containers.order import ContainerOrder
    from pybuild.networks.order import NetworkOrder

POD = "pod"
_NOTHING: dict[str, int] = {}


class Helpers:
    """The helpers of one run of a container.

    Args:
        home: the container's directory, open.
        first: the pidfd of the container's first process; -1 once that has ended.
        leave: lets go, in a new process, of what is the monitor's alone.
        keep: is called when the next monitor would need other descriptors than before.

    Attributes:
        left: the descriptors, by name, of a helper that rests.
    """

    def __init__(
        self,
        loop: Loop,
        order: ContainerOrder,
        home: int,
        first: Callable[[], int],
        leave: Callable[[], None],
        keep: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._order = order
        self._home = home
        self._first = first
        self._leave = leave
        self._keep = keep
        self.left: dict[str, int] = {}
        self._pid = 0
        self._helper: Helper | None = None
        self._began = self._delay = 0.0
        self._timer: Timer | None = None
        self._pod = -1

    def handed_on(self) -> dict[str, int] | None:
        """Return the descriptors, by name, with which another process can go on; None: it cannot."""
        if self._timer is not None and self._timer.act is not None:
            return None
        if self._order.networks is not None and self._helper is None and not self.left:
            return None
        helper = -1 if self._helper is None else self._helper.pidfd
        return {POD: self._pod, HELPER: helper, **self.left}

    def start(self, order: NetworkOrder, pid: int) -> Helper:
        """Start the first one, which has connected process *pid* when this returns.

        Raises:
            OSError, Fault: it is not connected.
        """
        self._pid = pid
        return self._new_helper(order, follows=False)

    def adopt(self, fds: Mapping[str, int], pid: int) -> None:
        """Go on with what another monitor has left, beside process *pid*."""
        self._pid = pid
        if POD in fds:
            os.close(fds[POD])  # the helper's order names it again
        left = left_in(fds)
        if left:
            self.have_left(left)
        elif HELPER in fds and self._order.networks is not None:
            self._have_helper(Helper.known(fds[HELPER]), self._order.networks)
        else:
            self._follow()

    def end(self) -> None:
        """Have networks let go of the container, which has ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._leave_pod()
        self.rouse()
        self._wait()

    def _new_helper(
        self, order: NetworkOrder, *, follows: bool, left: Mapping[str, int] = _NOTHING
    ) -> Helper:
        helper = Helper(order, self._pid, self._leave, follows=follows, left=left)
        self._have_helper(helper, order)
        return helper

    def _have_helper(self, helper: Helper, order: NetworkOrder) -> None:
        self._helper = helper
        self._began = time.monotonic()
        self._loop.watch(helper.pidfd, self._ended)
        if helper.line is not None:
            self._loop.watch(helper.line.fileno(), partial(self._hear, helper))
        self._watch_pod(order)

    def ask_to_rest(self) -> bool:
        """Ask the helper to end if it has nothing to do; False: there is none that could answer."""
        return self._helper is not None and self._helper.ask_to_rest()

    def _hear(self, helper: Helper, _events: int = 0) -> None:
        left = helper.hear()
        if left is None and helper.line is not None:
            self._loop.forget(helper.line.fileno())
        if left:
            self._wait()
            self.have_left(left)
            self._keep()

    def have_left(self, left: dict[str, int]) -> None:
        """Start another helper when one of the descriptors is ready that the last one has left."""
        self.left = left
        for name, fd in left.items():
            if wakes(name):
                self._loop.watch(fd, self.rouse)

    def rouse(self, _events: int = 0) -> None:
        """Start another helper with what the last one has left, and if only to clean up."""
        left, self.left = self.left, {}
        for fd in left.values():
            self._loop.forget(fd)
        order = reconnected(self._order, self._home).networks
        if not left or order is None:
            return
        known, first = dict(left), self._first()
        if first >= 0:
            known[FIRST] = first
        self.left = left  # which it lets go of, having copied them
        try:
            self._new_helper(order, follows=True, left=known)
        except OSError:
            if first >= 0:
                self._delay = delay(self._delay, 0)
                self._timer = self._loop.after(self._delay, self.rouse)
                return
        self.left = {}
        syscalls.close_quietly(*left.values())
        self._keep()

    def _watch_pod(self, order: NetworkOrder) -> None:
        """Have another hold the pod that the networks are in when its holder is killed."""
        if not pod.is_used() or self._pod >= 0:
            return
        try:
            self._pod = os.pidfd_open(pod.find_holder(order.folder))
        except (OSError, Fault):
            return  # the next container tries it again
        self._loop.watch(self._pod, partial(self._hold_pod, order))

    def _hold_pod(self, order: NetworkOrder, _events: int) -> None:
        self._leave_pod()
        self._watch_pod(order)

    def _leave_pod(self) -> None:
        if self._pod >= 0:
            self._loop.forget(self._pod)
            os.close(self._pod)
            self._pod = -1

    def _ended(self, _events: int) -> None:
        """Have another follow on a helper that was killed."""
        helper, lasted_s = self._helper, time.monotonic() - self._began
        if helper is not None and helper.line is not None:
            self._hear(helper)  # it may have left all that it had
        if not self._wait():
            self._delay = delay(self._delay, lasted_s)
            self._timer = self._loop.after(self._delay, self._follow)

    def _follow(self) -> None:
        order = reconnected(self._order, self._home).networks
        if order is not None:
            try:
                self._new_helper(order, follows=True)
            except OSError:
                self._delay = delay(self._delay, 0)
                self._timer = self._loop.after(self._delay, self._follow)

    def _wait(self) -> bool:
        """Wait for the helper's end; False: it has not cleaned up."""
        helper, self._helper = self._helper, None
        if helper is None:
            return True
        self._loop.forget(helper.pidfd)
        if helper.line is not None:
            self._loop.forget(helper.line.fileno())
        return helper.wait()


def left_in(fds: Mapping[str, int]) -> dict[str, int]:
    """Return those of *fds* that a helper has left which rested."""
    return {name: fd for name, fd in fds.items() if is_left(name)}
