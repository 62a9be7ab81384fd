"""The processes of other containers whose namespaces one joins, held open while it is started."""

from __future__ import annotations

import os

from pybuild.cache.disk.locks import born
from pybuild.containers.state import read_state
from pybuild.executor.zygote import procstatus, syscalls
from pybuild.executor.zygote.faults import USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from pybuild.containers.order import ContainerOrder


class JoinedProcesses:
    """Descriptors of them, for a block; -1 where none is joined.

    Looked up for each run: another container may have been started again since, and its number be a stranger's.

    Raises:
        OSError, Fault: one does not run.
    """

    def __init__(self, order: ContainerOrder) -> None:
        self.network = self.ipc = self.pids = -1
        try:
            self.network = _opened(order, order.joined, "network")
            self.ipc = _opened(order, order.joined_ipc, "IPC")
            self.pids = _opened(order, order.joined_pids, "PID")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        syscalls.close_quietly(*(fd for fd in (self.network, self.ipc, self.pids) if fd >= 0))


def _opened(order: ContainerOrder, id: str, kind: str) -> int:
    """Return a descriptor of the first process of the container *id*; -1 for no id."""
    if not id:
        return -1
    state = None
    try:
        home = os.open(f"{order.root}/containers/{id}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            state = read_state(home)
        finally:
            os.close(home)
    except FileNotFoundError:
        pass
    if state is not None and state.pid and state.boot == order.boot:
        try:
            pidfd = os.pidfd_open(procstatus.inner(state.pid))
        except OSError:
            pidfd = -1
        if pidfd >= 0 and born(state.pid) == state.born:
            return pidfd
        syscalls.close_quietly(*[fd for fd in (pidfd,) if fd >= 0])
    raise Fault(
        USER,
        f"cannot join {kind} of a non running container: {id[:12]}",
        (f"start it first: pybuild start {id[:12]}",),
    )
