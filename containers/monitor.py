"""The monitor of one container: its first process's parent, for as long as that runs [MON-5].

One poll over pipes, pidfds and sockets; no event loop's library, no threads. It holds the container's
lock, writes its log and its state, starts it again as its policy says, and does what commands ask over
its socket. When it is killed, the spawner forks another, which adopts the container [MON-6].
"""

from __future__ import annotations

import _socket
import os
import time

from pybuild.cache.disk.locks import born
from pybuild.cache.disk.replacing import unlink_if_there
from pybuild.containers import insides, keeping, locking
from pybuild.containers.actions import Actions
from pybuild.containers.calls import Calls, tell
from pybuild.containers.firstprocess import FirstProcess
from pybuild.containers.health import Health, read_health
from pybuild.containers.keeping import Adopted, SpawnerLine
from pybuild.containers.lines import SOCKET
from pybuild.containers.log import STREAMS, LogFile
from pybuild.containers.loop import Loop, Timer
from pybuild.containers.order import (
    HEALTH,
    ContainerOrder,
    StreamAttachment,
    of_other_version,
    reconnected,
)
from pybuild.containers.restarting import delay, restarts
from pybuild.containers.secondprocess import Execs
from pybuild.containers.state import (
    EXITED,
    NOT_STARTED,
    PAUSED,
    RESTARTING,
    RUNNING,
    STATUS_UNKNOWN,
    ContainerState,
    read_state,
    save_state,
)
from pybuild.containers.streams import AttachedClient, Streams
from pybuild.containers.waiting import Waiters
from pybuild.executor.steps.spec import StepExit, StepLimits
from pybuild.executor.zygote import procstatus, syscalls, worker
from pybuild.executor.zygote.children import REMOVE_AGAIN_MS, Children
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault, describe_os_error
from pybuild.model.border import Misfit, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

CONTAINER = "container"
_SIGKILL = 9
_IDLE_MS = 3_000
_FORGETS_NS = 10 * 10**9  # after a run of so long the next restart is not delayed any more


class Monitor:
    """A monitor of *order*, whose directory is open as *home*.

    Args:
        answer: hears that it has started, or why not.
        keeper: what holds our descriptors for the next monitor.
        adopted: what the monitor before has left; the container runs.

    Attributes:
        is_alone: the spawner is gone.
    """

    def __init__(
        self,
        order: ContainerOrder,
        home: int,
        answer: _socket.socket | None,
        keeper: SpawnerLine,
        adopted: Adopted | None,
    ) -> None:
        self._order = order
        self._home = home
        self._answer = answer
        self._keeper = keeper
        known = {} if adopted is None else adopted.fds
        self._lock = known[keeping.LOCK] if keeping.LOCK in known else locking.open_and_take(home)
        self._loop = Loop()
        name = f"container-{order.id[:12]}"
        self.children = Children(self._loop.poller, name, self._ended, self._leave)
        self._loop.others = self.children.reap
        self._log = LogFile(home, order.log)
        self._actions = Actions(order.root, home)
        self._waiters = Waiters()
        self._state = ContainerState(boot=order.boot)
        self._delay = 0.0
        self._kill_timer: Timer | None = None
        self._restart_timer: Timer | None = None
        self._health: Health | None = None
        self._is_done = self.is_alone = False
        self._is_stopping = False
        self._streams = self._new_streams()
        self._first: FirstProcess | None = None
        self._execs = Execs(self._loop, self.children, order, self._actions)
        self._loop.watch(keeper.fileno(), self._hear_keeper)
        self._calls = Calls(self._loop, home, self._serve, known.get(keeping.CALLS, -1))

    def _new_streams(self) -> Streams:
        streams = Streams(self._loop, self._write_log, self._log.take, once=self._order.stdin_once)
        streams.on_input_end = self._keep
        return streams

    def _keep(self) -> None:
        """Have the spawner hold what the next monitor would need, and no more."""
        if self._state.pid:
            left = {} if self._first is None else self._first.helpers.left
            self._keeper.keep(self._state.pid, self._streams, left)

    def _write_log(self, number: int, data: bytes) -> None:
        try:
            self._log.write(STREAMS[number - 1], data)
        except OSError:
            pass  # on a full disk output is lost, as in docker; the container goes on

    def _leave(self) -> None:
        """Let go of what is ours alone, in a new process."""
        mine = {*self._loop.watched(), *self.children.fds(), *self._streams.descriptors()}
        mine |= {*self._execs.descriptors(), self._lock, self._home, *self._log.descriptors()}
        mine |= set() if self._first is None else set(self._first.descriptors())
        if self._answer is not None:
            mine.add(self._answer.fileno())
        syscalls.close_quietly(*(fd for fd in mine if fd >= 0))

    # --- start ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the container's first process.

        Raises:
            OSError, Fault: there is none.
        """
        self._first = self._new_first()
        self._first.start(CONTAINER)

    def _new_first(self) -> FirstProcess:
        known = (self._loop, self.children, self._order, self._home, self._streams)
        return FirstProcess(*known, self._begun, self._leave, self._keep)

    def adopt(self, adopted: Adopted) -> None:
        """Go on where a monitor was killed."""
        self._state = read_state(self._home)
        is_it = self._state.boot == self._order.boot and self._state.born == born(adopted.pid)
        self._first = self._new_first()
        if self._first.adopt(adopted, self._state.leaf, is_it=is_it or adopted.dozes):
            if adopted.status is not None:
                self._first.note_status(adopted.status)
            if self._order.health is not None:
                self._look_after(read_health(self._home))
            self._say_started(())
            if self._state.unsent:
                self._send(self._state.unsent, surely=True)
            if self._state.kill_at:
                self._kill_in(self._state.kill_at - time.monotonic())
            return
        self._say_started(())
        self._end(StepExit(STATUS_UNKNOWN if adopted.status is None else adopted.status))

    def _begun(self, pid: int, warnings: Sequence[str]) -> None:
        """Say that the first process runs."""
        leaf = self._leaf()
        self._state = ContainerState(
            RUNNING,
            pid,
            self._order.boot,
            started=time.time_ns(),
            born=born(pid),
            leaf=() if leaf is None else tuple((h.version, path) for h, path in leaf.places),
            restarts=self._state.restarts,
            stopped=self._state.stopped,
        )
        if self._order.health is not None:
            self._look_after(None)  # before anybody can see that it runs
        self._keep()
        save_state(self._home, self._state)
        self._actions.note_start()
        self._say_started(warnings)

    def _say_started(self, warnings: Sequence[str]) -> None:
        if self._answer is not None:
            tell(self._answer, ("started", list(warnings)))
            self._answer.close()
            self._answer = None

    def _look_after(self, before: dict[str, Any] | None) -> None:
        """Look after its health from now on; *before*: as another monitor has left it."""
        check = self._order.health
        assert check is not None
        self._health = Health(
            self._loop,
            self._home,
            check,
            lambda done: self._execs.probe(self._state.pid, self._leaf(), check.test, done),
            lambda status: self._actions.note(f"health_status: {status}"),
            (time.time_ns() - self._state.started) / 1e9,
            before,
        )

    def _leaf(self) -> Any:
        return None if self._first is None else self._first.leaf

    # --- life -------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Return when the container has ended and everybody who waits was told, or another monitor is to sleep."""
        while not self._is_done:
            left = self._left() if self.children.tidy() else None
            wait_ms = REMOVE_AGAIN_MS if self.children.is_tidying else None
            is_quiet = not self._loop.turn(_IDLE_MS if left else wait_ms)
            is_idle = is_quiet and self._first is not None and not self._first.helpers.ask_to_rest()
            if is_idle and left and not self._remembers_delay() and self._keeper.doze(left):
                return
            if self._first is not None and self._first.has_ended and self._first.ended is not None:
                self._end(self._first.ended)
        while not self._calls.are_drained:
            self._loop.turn(None)

    def _left(self) -> dict[str, int] | None:
        """Return the descriptors for a monitor that sleeps in our place; None: we have something to do."""
        if self._first is None or self._state.status != RUNNING or self._state.unsent:
            return None
        is_busy = len(self._execs) or self._loop.has_timers or self._streams.is_feeding
        if is_busy or self.is_alone or self._calls.has_callers or self._is_stopping:
            return None
        if not procstatus.pidfds_tell_codes():
            return None
        known = self._first.left(CONTAINER)
        return known and {**known, keeping.LOCK: self._lock, keeping.CALLS: self._calls.fileno()}

    def _remembers_delay(self) -> bool:
        return self._delay > 0 and time.time_ns() - self._state.started < _FORGETS_NS

    def _ended(self, job: str, ended: StepExit) -> None:
        """Note the end of a job; see `Children`."""
        if job == CONTAINER and self._first is not None:
            self._first.note_end(ended)
        else:
            self._execs.note_end(job, ended)

    def _end(self, ended: StepExit) -> None:
        """Handle the end of a run: another begins, or it was the last one."""
        first, self._first = self._first, None
        for timer in (self._kill_timer, self._restart_timer):
            if timer is not None:
                timer.cancel()
        if self._health is not None:
            self._health.stop()
            self._health = None
        self._streams.drain()
        try:
            self._log.end()
        except OSError:
            pass  # as above
        self._execs.end_all()
        refusal = None if first is None else first.refusal
        if self._answer is not None:  # it has never run
            unsaid = Fault(ENVIRONMENT, f"the process ended while it was set up ({ended.status})")
            tell(self._answer, refusal or worker.fault_message(unsaid))
            self._finish(ended, has_run=False)
            return
        ran_s = 0.0
        if self._state.status != RESTARTING:
            ran_s = max(0.0, (time.time_ns() - self._state.started) / 1e9)
        else:  # it has not come to a run this time: how the last one ended is still what is known
            ended = ended._replace(status=self._state.exit_code)
        again = restarts(
            self._order.restart, ended.status, self._state.restarts, stopped=self._state.stopped
        )
        self._state = self._state._replace(
            status=RESTARTING if again else EXITED,
            pid=0,
            finished=time.time_ns(),
            exit_code=ended.status,
            kill_at=0.0,
            unsent=0,
            oom_killed=ended.oom_killed,
            error="" if refusal is None else refusal[2],
        )
        self._keeper.let_go(returns=again)
        save_state(self._home, self._state)
        self._actions.note_end(
            ended.status, ran_s, oom_killed=ended.oom_killed, stopped=self._is_stopping
        )
        if not again:
            self._finish(ended, has_run=True)
            return
        self._waiters.tell_end(self._streams, ended)
        self._delay = delay(self._delay, ran_s)
        self._restart_timer = self._loop.after(self._delay, self._start_again)

    def _start_again(self) -> None:
        self._state = self._state._replace(restarts=self._state.restarts + 1)
        self._streams = self._new_streams()
        self._order = reconnected(self._order, self._home)
        try:
            self.start()
        except (OSError, Fault):
            self._end(StepExit(NOT_STARTED))

    def _finish(self, ended: StepExit, *, has_run: bool) -> None:
        self._calls.end()
        self.children.kill_all()
        for name in (SOCKET, HEALTH):
            unlink_if_there(name, at=self._home)
        # From here on it can be started again; whoever is still to hear its output is no hindrance.
        os.close(self._lock)
        self._lock = -1
        self._waiters.tell_last_end(self._loop, self._streams, ended, self._order, has_run=has_run)
        self._is_done = True

    # --- commands ---------------------------------------------------------------------------------

    def attach_first(self, socket: _socket.socket, attachment: StreamAttachment) -> None:
        """Take over somebody who is there before the first byte of output."""
        client = self._calls.take(socket)
        self._attach(client, attachment)

    def _attach(self, client: AttachedClient, attachment: StreamAttachment) -> None:
        if attachment.removes:
            self._waiters.remover = client
        if attachment.stdin or attachment.stdout or attachment.stderr:  # else they only wait
            self._actions.note("attach")
        self._streams.attach(client, attachment)

    def _serve(self, client: AttachedClient, message: tuple[Any, ...] | None) -> None:
        if message is None:
            self._streams.leave(client)
            self._execs.leave(client)
            self._waiters.leave(client)
            return
        try:
            self._do(client, message)
        except Fault as fault:
            client.send(worker.fault_message(fault))
        except Misfit:
            client.send(worker.fault_message(of_other_version()))
        except OSError as error:
            text = describe_os_error(error, "cannot do that to the container")
            client.send(worker.fault_message(Fault(ENVIRONMENT, text)))

    def _do(self, client: AttachedClient, message: tuple[Any, ...]) -> None:
        match message:
            case ("input", bytes() as data):
                (self._execs.streams_of(client) or self._streams).feed(client, data)
            case ("eof",):
                (self._execs.streams_of(client) or self._streams).end_input()
            case ("resize" | "size" as word, int() as rows, int() as columns):
                of_exec = self._execs.streams_of(client)
                (of_exec or self._streams).resize(rows, columns)
                if of_exec is None:
                    self._actions.note("resize", {"height": str(rows), "width": str(columns)})
                if word == "size":
                    client.send(("done", []))
            case ("signal" | "end" as word, int() as number):
                if not self._execs.signal(client, number):
                    self._kill(number, exactly=word == "signal")
            case ("kill", int() as number):
                self._kill(number)
                client.send(("done", []))
            case ("stop" | "restart" as word, int() as number, float() as seconds):
                self._waiters.returns = word == "restart"
                self._stop(number, seconds)
            case ("wait",):
                self._waiters.add(client)
            case ("pause" | "unpause" as word,):
                self._pause(word == "pause")
                client.send(("done", []))
            case ("update", limits, policy):
                client.send(("done", self._update(unpacked(limits), unpacked(policy))))
            case ("processes",):
                if not self._state.pid:
                    self._see_it_runs()
                client.send(("done", insides.processes(self._leaf(), self._state.pid)))
            case ("attach", attachment):
                self._see_it_runs()
                taken = unpacked(attachment)
                client.send(("attached",))
                self._attach(client, taken)
            case ("exec", order):
                self._see_it_runs()
                self._execs.start(client, unpacked(order), self._state.pid, self._leaf())
            case ("execute", given):
                runs = self._first is not None and self._state.status == RUNNING
                self._execs.start_given(client, given, self._state.pid if runs else 0, self._leaf())
            case _:
                raise Fault(USER, f"unknown request: {message[0]}")

    def _see_it_runs(self) -> None:
        """Raise a fault unless a process can be started in it, or heard [ENG-21]."""
        insides.see_it_runs(self._state, self._order.id[:12], is_there=self._first is not None)

    def _kill(self, number: int, *, exactly: bool = True) -> None:
        ends = number in (_SIGKILL, self._order.stop_signal) and not self._state.stopped
        if ends:
            self._state = self._state._replace(stopped=True)
        if self._cancel_restart():
            return
        # Surely, or the next monitor would start it again.
        self._send(number, exactly=exactly, surely=ends and self._order.restart.name != "no")

    def _send(self, number: int, *, exactly: bool = True, surely: bool = False) -> None:
        """Hand a signal to the first process, which may stand still; *surely*: if not we, the next monitor does."""
        if surely:
            self._note(unsent=number)
        if self._first is not None:
            self._actions.note("kill", {"signal": str(number)})
            self._first.kill(number, exactly=exactly)
        self._thaw_for_signal()
        if surely:
            self._note(unsent=0)

    def _stop(self, number: int, seconds: float) -> None:
        kill_at = time.monotonic() + seconds if seconds >= 0 else 0.0
        self._state = self._state._replace(stopped=True, kill_at=kill_at)
        if self._cancel_restart() or self._first is None:
            return
        self._is_stopping = True
        self._send(number, surely=bool(seconds) or self._order.restart.name != "no")
        if seconds >= 0:
            self._kill_in(seconds)

    def _kill_in(self, seconds: float) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = self._loop.after(max(0.0, seconds), lambda: self._kill(_SIGKILL))

    def _cancel_restart(self) -> bool:
        """End a container that waits to be started again; False: it does not wait."""
        if self._state.status != RESTARTING or self._first is not None:
            return False
        if self._restart_timer is not None:
            self._restart_timer.cancel()
        self._note(status=EXITED)
        self._finish(StepExit(self._state.exit_code), has_run=True)
        return True

    def _thaw_for_signal(self) -> None:
        """Let a container that stands still take the signal that was just queued [CTR-31]."""
        if self._state.status == PAUSED:
            insides.freeze(self._leaf(), False)
            self._note(status=RUNNING)

    def _pause(self, paused: bool) -> None:
        there = self._first is not None
        insides.pause(self._state, self._leaf(), paused, self._order.id, is_there=there)
        self._note(status=PAUSED if paused else RUNNING)
        self._actions.note("pause" if paused else "unpause")
        if self._health is not None:
            self._health.pause(paused)

    def _note(self, **changed: Any) -> None:
        self._state = self._state._replace(**changed)
        save_state(self._home, self._state)

    def _update(self, limits: StepLimits, policy: Any) -> list[str]:
        step, warnings = insides.limited(self._order.step, self._leaf(), limits)
        self._order = self._order._replace(step=step, restart=policy or self._order.restart)
        return warnings

    def _hear_keeper(self, _events: int) -> None:
        status = self._keeper.status()
        if status is None:
            self._loop.forget(self._keeper.fileno())
            self.is_alone = True  # the spawner is gone
        if self._first is not None:
            self._first.note_status(status)
