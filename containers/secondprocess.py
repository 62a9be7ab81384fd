"""More processes in a container that runs: those of ``exec``, and the probes of its health [CTR-50, CTR-51]."""

from __future__ import annotations

import _socket
import os
import struct

from pybuild.containers.execorders import order_of
from pybuild.containers.order import ContainerOrder, ExecOrder, StreamAttachment
from pybuild.containers.streams import PIECE_BYTES, READABLE, WRITABLE, AttachedClient, Streams
from pybuild.executor.steps.spec import StepExit, StepSpec
from pybuild.executor.zygote import joining, procstatus, syscalls, wire
from pybuild.executor.zygote.cgroups import Leaf
from pybuild.executor.zygote.faults import Fault
from pybuild.model.border import packed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pybuild.containers.actions import Actions
    from pybuild.containers.loop import Loop
    from pybuild.executor.zygote.children import Children

_SIGKILL = 9
_MOST_PROBED = 4096


class _Exec:
    """One of them: its streams, and who hears how it ended."""

    def __init__(
        self,
        streams: Streams,
        channel: _socket.socket,
        on_message: Callable[[tuple[Any, ...]], None],
        id: str,
    ) -> None:
        self.id = id or os.urandom(32).hex()
        self.streams = streams
        self.channel: _socket.socket | None = channel
        self.on_message = on_message
        self.began: Callable[[], None] = lambda: None
        self.client: AttachedClient | None = None
        self.pid = 0
        self.messages = wire.Reassembler()
        self.handed: list[int] = []
        self.is_ready = False
        self.refusal: tuple[Any, ...] | None = None
        self.ended: StepExit | None = None


def place_beside(pid: int, leaf: Leaf | None) -> joining.Place:
    """Return the place where a process is, whose cgroups are *leaf*.

    Raises:
        Fault: it has ended, or nothing can be started there.
    """
    pid = procstatus.inner(pid)
    try:
        if not pid:
            raise ProcessLookupError
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        raise joining.has_ended() from error
    try:
        return joining.Place(pid, pidfd, leaf or Leaf())
    finally:
        os.close(pidfd)


class Execs:
    """All of them, by their jobs.

    Args:
        actions: writes down those that a process has part in, and has the container's record.
        place_of: returns the place of a process with these cgroups, as `place_beside`.
    """

    def __init__(
        self,
        loop: Loop,
        children: Children,
        order: ContainerOrder,
        actions: Actions,
        place_of: Callable[[int, Leaf | None], joining.Place] = place_beside,
    ) -> None:
        self._loop = loop
        self._actions = actions
        self._place_of = place_of
        self._children = children
        self._step = order.step
        self._execs: dict[str, _Exec] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._execs)

    def descriptors(self) -> tuple[int, ...]:
        """Return those that are ours alone."""
        fds: list[int] = []
        for one in self._execs.values():
            fds += [*one.streams.descriptors(), *one.handed]
            fds += [] if one.channel is None else [one.channel.fileno()]
        return tuple(fds)

    def streams_of(self, client: AttachedClient) -> Streams | None:
        """Return the streams of what *client* executes."""
        for one in self._execs.values():
            if one.client is client:
                return one.streams
        return None

    def signal(self, client: AttachedClient, number: int) -> bool:
        """Send a signal to what *client* executes; False: it executes nothing."""
        for job, one in self._execs.items():
            if one.client is client:
                self._children.kill(job, number, exactly=True)
                return True
        return False

    # --- start ------------------------------------------------------------------------------------

    def start(self, client: AttachedClient, order: ExecOrder, pid: int, leaf: Leaf | None) -> None:
        """Execute something for *client*, beside the process *pid*.

        Raises:
            OSError, Fault: it cannot be.
        """
        streams = Streams(self._loop, lambda number, data: None, once=True)

        def on_message(message: tuple[Any, ...]) -> None:
            client.send(message)
            client.close()

        one = self._start(order, pid, leaf, streams, on_message)
        one.client = client
        if order.detached:
            one.began = lambda: on_message(("done", []))
        else:
            if order.id:
                one.began = lambda: client.send(("began", one.pid))
            attachment = StreamAttachment(
                stdin=order.stdin or order.terminal is not None, waits=True
            )
            streams.attach(client, attachment)

    def start_given(
        self, client: AttachedClient, given: dict[str, Any], pid: int, leaf: Leaf | None
    ) -> None:
        """Execute what is *given* (see `execorders`) as `start` does; tell *client* whether it is begun.

        Args:
            pid: 0 where the container does not run.
        """
        config = self._actions.config()
        if not pid or not config:
            client.send(("unable",))
            return
        self.start(client, order_of(config, given), pid, leaf)
        client.send(("attached",))

    def probe(
        self,
        pid: int,
        leaf: Leaf | None,
        test: tuple[str, ...],
        done: Callable[[int, bytes], None],
    ) -> Callable[[], bytes]:
        """Execute a probe of health, and hand on its status and output; return what ends it and gives what it wrote [CTR-37]."""
        output = bytearray()

        def take(_number: int, data: bytes) -> None:
            output.extend(data[: _MOST_PROBED - len(output)])

        def on_message(message: tuple[Any, ...]) -> None:
            if message[0] == "unexecuted":
                output.extend(message[2].encode("utf-8", "replace"))
            done(message[1] if message[0] in ("ended", "unexecuted") else -1, bytes(output))

        streams = Streams(self._loop, take, once=True)
        step = self._step
        order = ExecOrder(test[1:], step.env, step.cwd, step.user)
        try:
            one = self._start(order, pid, leaf, streams, on_message)
        except (OSError, Fault) as error:
            message = str(error)
            self._loop.after(0, lambda: done(-1, message.encode("utf-8", "replace")))
            return lambda: b""

        def end() -> bytes:
            for job, known in list(self._execs.items()):
                if known is one:
                    self._children.kill(job, _SIGKILL)
            return bytes(output)

        return end

    def _start(
        self,
        order: ExecOrder,
        pid: int,
        leaf: Leaf | None,
        streams: Streams,
        on_message: Callable[[tuple[Any, ...]], None],
    ) -> _Exec:
        self._count += 1
        job = f"exec-{self._count}"
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        fds = [theirs.detach()]
        if order.terminal is None:
            for number in (1, 2):
                read_end, write_end = os.pipe()
                os.fchmod(write_end, WRITABLE)
                os.set_blocking(read_end, False)
                streams.add_output(read_end, number)
                fds.append(write_end)
            if order.stdin:
                read_end, write_end = os.pipe()
                os.fchmod(read_end, READABLE)
                os.set_blocking(write_end, False)
                streams.add_input(write_end)
                fds.append(read_end)
        one = self._execs[job] = _Exec(streams, ours, on_message, order.id)
        try:
            self._children.start_in(job, self._place_of(pid, leaf), fds)
            one.pid = self._children.pid(job)
        except (OSError, Fault):
            syscalls.close_quietly(*fds)
            ours.close()
            del self._execs[job]
            streams.drain()
            raise
        self._loop.watch(ours.fileno(), lambda events: self._hear(job, one))
        step = self._step
        join = StepSpec(
            (),
            step.upper,
            "",
            order.args,
            env=order.env,
            cwd=order.cwd,
            user=order.user,
            network=step.network,
            security="insecure" if order.privileged else step.security,
            privileges=step.privileges,
            ulimits=step.ulimits,
            terminal=order.terminal,
            lasting=True,
        )
        try:
            ours.sendall(wire.frame(packed(join)))
        except ConnectionError:
            pass  # it was killed already, and its end says so
        words = " ".join(order.args)  # written down while the process reads what it is to be
        for action in ("exec_create", "exec_start"):
            self._actions.note(f"{action}: {words}", {"execID": one.id})
        return one

    def _hear(self, job: str, one: _Exec) -> None:
        """Take what it says before it becomes its program, and that it has."""
        channel = one.channel
        assert channel is not None
        space = _socket.CMSG_SPACE(wire.MOST_DESCRIPTORS * 4)
        try:
            data, rights, _, _ = channel.recvmsg(PIECE_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, rights = b"", []
        for _, _, numbers in rights:
            size = len(numbers) // 4
            one.handed += struct.unpack(f"={size}i", numbers[: size * 4])
        if not data:
            self._loop.forget(channel.fileno())
            channel.close()
            one.channel = None
            if one.is_ready and one.refusal is None:
                one.began()
            self._end(job, one)
            return
        for message in one.messages.feed(data):
            if message[0] in ("fault", "unexecuted"):
                one.refusal = tuple(message)
            elif message[0] == "ready":
                one.is_ready = True
                for name in message[1:]:
                    fd = one.handed.pop(0)
                    if name == "terminal":
                        one.streams.add_terminal(fd)
                    else:
                        os.close(fd)  # its socket calls of 32 bits are refused

    # --- end --------------------------------------------------------------------------------------

    def note_end(self, job: str, ended: StepExit) -> None:
        """Note the end of a job, if it is one of these."""
        one = self._execs.get(job)
        if one is not None:
            one.ended = ended
            self._end(job, one)

    def _end(self, job: str, one: _Exec) -> None:
        """Report its end, when that is known and all of its output is handed on."""
        if one.ended is None or one.channel is not None:
            return
        del self._execs[job]
        one.streams.drain()
        one.streams.clients.clear()
        self._actions.note("exec_die", {"execID": one.id, "exitCode": str(one.ended.status)})
        one.on_message(one.refusal or ("ended", one.ended.status))

    def leave(self, client: AttachedClient) -> None:
        """Let somebody go; what it executes goes on, and reads the end of its input."""
        for one in self._execs.values():
            if one.client is client:
                one.streams.leave(client)
                one.client = None

    def end_all(self) -> None:
        """Tell that all have ended, as they do with the container."""
        for job, one in list(self._execs.items()):
            if one.channel is not None:
                self._loop.forget(one.channel.fileno())
                one.channel.close()
                one.channel = None
            one.ended = one.ended or StepExit(128 + _SIGKILL)
            self._end(job, one)
