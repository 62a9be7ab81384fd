"""The first process of a container as its monitor has it: started, or adopted, and waited for."""

from __future__ import annotations

import _socket
import os
import select
import struct
from functools import partial

from pybuild.cache.disk.replacing import unlink_if_there
from pybuild.containers import insides
from pybuild.containers.helpers import Helpers, left_in
from pybuild.containers.joined import JoinedProcesses
from pybuild.containers.keeping import SOCKET_CALLS, STDIN, TERMINAL, Adopted
from pybuild.containers.order import PIPES
from pybuild.containers.state import STATUS_UNKNOWN
from pybuild.containers.streams import PIECE_BYTES, READABLE, WRITABLE
from pybuild.executor.steps.spec import StepExit
from pybuild.executor.zygote import isolation, procstatus, rootfs, syscalls, wire, worker
from pybuild.executor.zygote.copied.overlaycheck import overlay_works_in
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault
from pybuild.model.border import packed
from pybuild.networks.helper import FIRST
from pybuild.networks.rtnetlink import Inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pybuild.containers.loop import Loop
    from pybuild.containers.order import ContainerOrder
    from pybuild.containers.streams import Streams
    from pybuild.executor.zygote.cgroups import Leaf
    from pybuild.executor.zygote.children import Children

_SIGKILL = 9
_SERVICE = "service"
_ANSWER_CALLS = "pybuild.executor.zygote.socketcalls:answer_all"


class FirstProcess:
    """One run of a container's first process.

    Args:
        home: the container's directory, open.
        begun: is called with its number, and the warnings, once its program runs.
        leave: lets go, in a new process, of what is the monitor's alone.
        keep: is called when the next monitor would need other descriptors than before.

    Attributes:
        helpers: those for its networks.
        ended: how it ended, once it has.
        refusal: the message that says why its program never ran.
        leaf: its cgroups.
    """

    def __init__(
        self,
        loop: Loop,
        children: Children,
        order: ContainerOrder,
        home: int,
        streams: Streams,
        begun: Callable[[int, Sequence[str]], None],
        leave: Callable[[], None],
        keep: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._order = order
        self._home = home
        self._streams = streams
        self._begun = begun
        self.helpers = Helpers(loop, order, home, self._descriptor, leave, keep)
        self._messages = wire.Reassembler()
        self._channel: _socket.socket | None = None
        self._handed: list[int] = []
        self._warnings: list[str] = []
        self._is_ready = False
        self._pid = 0
        self._pidfd = -1
        self._socket_calls = -1
        self._is_gone = False
        self._status: int | None = None
        self.ended: StepExit | None = None
        self.refusal: tuple[Any, ...] | None = None
        self.leaf: Leaf | None = None

    def descriptors(self) -> tuple[int, ...]:
        """Return those that are ours alone, beside those that are watched; -1 for one that is not there."""
        return (*self._handed, self._pidfd, *self.helpers.left.values())

    def left(self, job: str) -> dict[str, int] | None:
        """Return the descriptors, by name, with which another process can go on; None: it cannot."""
        runs = self._is_ready and self.ended is None and self._channel is None and not self._is_gone
        helped = self.helpers.handed_on()
        if helped is None or not (runs and not self._handed and self._children.may_be_left(job)):
            return None
        fds = {FIRST: self._pidfd, SOCKET_CALLS: self._socket_calls}
        fds |= {STDIN: self._streams.input, TERMINAL: self._streams.terminal}
        if self._streams.terminal < 0:
            fds |= {PIPES[number - 1]: fd for number, fd in self._streams.outputs.items()}
        if self._pidfd < 0:
            fds[FIRST] = self._children.pidfd(job)
        return {**fds, **helped}

    def _descriptor(self) -> int:
        """Return its pidfd; -1 once it has ended."""
        if self.ended is not None or self._is_gone:
            return -1
        return self._pidfd if self._pidfd >= 0 else self._children.pidfd("container")

    @property
    def _shares_pids(self) -> bool:
        return bool(self._order.step.sharing.flags & syscalls.CLONE_NEWPID)

    @property
    def has_ended(self) -> bool:
        """Whether it has ended; what it wrote is there by then, and whoever is slow to take it is not waited for."""
        return self.ended is not None and self._channel is None

    # --- start ------------------------------------------------------------------------------------

    def start(self, job: str) -> None:
        """Start it.

        Raises:
            OSError, Fault: there is none.
        """
        with JoinedProcesses(self._order) as joined:
            self._start(job, joined)

    def _start(self, job: str, joined: JoinedProcesses) -> None:
        step = self._order.step
        insides.make_empty(step.work)
        copied = not (overlay_works_in(step.upper) or isolation.records())
        # It is the supervisor of a copy that is brought to networks: what the container has is made later.
        apart = copied and self._order.networks is not None
        if apart:
            step = step._replace(network="host")
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self._channel = ours
        self._loop.watch(ours.fileno(), self._hear)
        fds = [theirs.detach()]
        if step.terminal is not None and (copied or not isolation.mounts()):
            # There is no /dev of its own to make one in: this machine's has to do.
            ours_of_terminal, slave = os.openpty()
            self._streams.add_terminal(ours_of_terminal)
            self._streams.resize(*step.terminal)
            step = step._replace(terminal=None)
            fds += [slave, os.dup(slave), os.dup(slave)]
        elif step.terminal is None:
            fds += self._open_outputs()
            if self._order.stdin:
                fds.append(self._open_input())
        sharing = step.sharing._replace(ipc_of=joined.ipc, pids_of=joined.pids)
        step = step._replace(sharing=sharing)
        try:
            with Inside(joined.network):
                self._children.start_step(job, step.start(), fds, copied=copied, apart=apart)
        except (OSError, Fault):
            syscalls.close_quietly(*fds)
            self._end_channel()
            raise
        self._pid = self._children.pid(job)  # it may have ended when it is first heard of
        self.leaf = self._children.leaf(job)
        try:
            if self._shares_pids and not (self.leaf and self.leaf.places):
                raise Fault(
                    ENVIRONMENT,
                    "without a cgroup nobody knows the processes of a container that has no PID namespace",
                    ("leave --pid away; pybuild doctor shows which cgroups this machine gives",),
                )
            if self._order.networks is not None:
                helper = self.helpers.start(self._order.networks, self._pid)
                self._warnings += helper.warnings
                step = step._replace(
                    hosts=helper.hosts.encode(), resolv_conf=helper.resolv_conf.encode()
                )
            ours.sendall(wire.frame(packed(step)))
        except (OSError, Fault) as error:
            # It is there, and has to be waited for: what is refused is told with its end.
            self.refusal = worker.fault_message(error)
            self._children.kill(job, _SIGKILL, exactly=True)

    def _open_outputs(self) -> list[int]:
        """Return the ends of its outputs that are its own.

        They are pipes with a name, so that they can be found again; and it can read them, too, so that
        nothing is lost, and it is not ended for it, while nobody else does.
        """
        theirs: list[int] = []
        for number, name in enumerate(PIPES, start=1):
            unlink_if_there(name, at=self._home)
            os.mkfifo(name, 0o600, dir_fd=self._home)
            self._streams.add_output(self._open_pipe(name), number)
            theirs.append(os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._home))
            os.fchmod(theirs[-1], WRITABLE)
        return theirs

    def _open_pipe(self, name: str) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=self._home)

    def _open_input(self) -> int:
        theirs, ours = os.pipe()
        os.fchmod(theirs, READABLE)
        os.set_blocking(ours, False)
        self._streams.add_input(ours)
        return theirs

    def _hear(self, _events: int) -> None:
        """Take what it says before it becomes its program, and that it has."""
        channel = self._channel
        assert channel is not None
        space = _socket.CMSG_SPACE(wire.MOST_DESCRIPTORS * 4)
        try:
            data, rights, _, _ = channel.recvmsg(PIECE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, rights = b"", []  # it was killed before it had read what it is to be
        for _, _, numbers in rights:
            size = len(numbers) // 4
            self._handed += struct.unpack(f"={size}i", numbers[: size * 4])
        if not data:
            self._end_channel()
            if self._is_ready and self.refusal is None:
                self._begun(self._pid, self._warnings)
            return
        for message in self._messages.feed(data):
            if message[0] == "warning":
                self._warnings.append(message[1])
            elif message[0] in ("fault", "unexecuted"):
                self.refusal = tuple(message)
            elif message[0] == "ready":
                self._take_handed(message[1:])

    def _end_channel(self) -> None:
        if self._channel is not None:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None

    def _take_handed(self, names: Sequence[str]) -> None:
        self._is_ready = True
        for name in names:
            fd = self._handed.pop(0)
            if name == "listener":
                self._watch_calls(fd)
            elif name == "terminal":
                self._streams.add_terminal(fd)
            else:
                os.close(fd)  # what others may reach is sealed for layers alone

    def _watch_calls(self, listener: int) -> None:
        self._socket_calls = listener
        self._loop.watch(listener, partial(self._serve_calls, listener))

    def _serve_calls(self, listener: int, _events: int) -> None:
        """Have socket calls of 32-bit programs answered; see `executor.zygote.socketcalls`."""
        self._socket_calls = -1
        self._loop.forget(listener)
        poller = select.poll()
        poller.register(listener, select.POLLIN)
        # The container's end makes it readable, too, and is no call.
        if not any(event & select.POLLIN for _, event in poller.poll(0)):
            os.close(listener)
            return
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        fds = [theirs.detach(), listener]
        try:
            self._children.start_call(_SERVICE, _ANSWER_CALLS, fds)
            ours.sendall(wire.frame((_ANSWER_CALLS, (), {}, False)))
        except (OSError, Fault):
            syscalls.close_quietly(*fds)  # without whoever answers, calls fail
        finally:
            ours.close()

    # --- adoption ---------------------------------------------------------------------------------

    def adopt(self, adopted: Adopted, leaf: Sequence[tuple[int, str]], *, is_it: bool) -> bool:
        """Watch one that another monitor started; False: it has ended.

        Args:
            is_it: the process of that number still is the container's.
        """
        try:
            if not is_it:
                raise ProcessLookupError
            self._pidfd = adopted.fds.get(FIRST, -1)
            if self._pidfd < 0:
                self._pidfd = os.pidfd_open(adopted.pid)
        except OSError:
            self._pid, self._is_gone = adopted.pid, True
            self.helpers.have_left(left_in(adopted.fds))
            self.helpers.end()
            return False
        self._pid = adopted.pid
        self._is_ready = True
        self.leaf = insides.known_leaf(leaf)
        if TERMINAL in adopted.fds:
            self._streams.add_terminal(adopted.fds[TERMINAL])
        elif self._order.step.terminal is None:
            for number, name in enumerate(PIPES, start=1):
                known = adopted.fds.get(name, -1)
                self._streams.add_output(known if known >= 0 else self._open_pipe(name), number)
            if STDIN in adopted.fds:
                self._streams.add_input(adopted.fds[STDIN])
        if self._streams.input < 0 and self._streams.terminal < 0:
            self._streams.close_input()  # there is none any more
        if SOCKET_CALLS in adopted.fds:
            self._watch_calls(adopted.fds[SOCKET_CALLS])
        self._loop.watch(self._pidfd, self._adopted_ended)
        self.helpers.adopt(adopted.fds, self._pid)
        return True

    def _adopted_ended(self, _events: int) -> None:
        """Note that it has ended; how, the spawner knows, if anybody does."""
        self._loop.forget(self._pidfd)
        self._streams.drain()
        known = procstatus.exit_code(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._is_gone = True
        if known is not None or self._status is not None:
            self.note_status(known if known is not None else self._status)

    def note_status(self, status: int | None) -> None:
        """Note how an adopted process has ended; None: only the kernel may know it."""
        self._status = STATUS_UNKNOWN if status is None else status
        if self._is_gone and self.ended is None:
            oom = self.leaf is not None and self.leaf.usage()[1] > 0
            self.note_end(StepExit(self._status, oom_killed=oom))
            rootfs.remove_work(self._order.step.work)
            if self.leaf is not None:
                self._children.retire(self.leaf)

    # --- end --------------------------------------------------------------------------------------

    def kill(self, number: int, *, exactly: bool = True) -> None:
        """Send it a signal; nothing happens when it is gone.

        Args:
            exactly: as docker does [CTR-31]: the kernel gives a namespace's first process only what it
                asked for; else what ends others ends it, too.
        """
        inner = procstatus.inner(self._pid)
        if not exactly:
            number = procstatus.ending(inner or self._pid, number)
        if inner not in (0, self._pid):
            try:
                os.kill(
                    inner, number
                )  # whose number is not given to others before its supervisor has seen its end
            except ProcessLookupError:
                pass
        elif self._pidfd < 0:
            self._children.kill("container", number, exactly=True)
        else:
            try:
                syscalls.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass

    def note_end(self, ended: StepExit) -> None:
        """Note how it ended; its networks are let go of before anybody hears of it."""
        self.ended = ended
        if self._shares_pids and self.leaf is not None:
            insides.end_all(self.leaf)  # else the kernel does it
        self.helpers.end()
