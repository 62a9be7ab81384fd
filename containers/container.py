"""A container that exists, as a command sees it: its files, its state, and what its monitor can be asked."""

from __future__ import annotations

import fcntl
import marshal
import os
import time

from pybuild.cache.disk.locks import boot_id, born, is_alive
from pybuild.containers.config import ContainerConfig
from pybuild.containers.lines import MESSAGE_BYTES, LocalLine
from pybuild.containers.order import LOCK, read_order
from pybuild.containers.state import (
    EXITED,
    STATUS_UNKNOWN,
    ContainerState,
    read_state,
    save_state,
)
from pybuild.model.border import NamedTuple
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.lightlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any

_SIGKILL = 9
_NOTHING: dict[str, str] = {}
_REVIVAL_S = 30.0


class Container(NamedTuple):
    """A container that exists: its directory, and what is written there."""

    path: str
    config: ContainerConfig

    @contextmanager
    def home(self) -> Generator[int]:
        """Open its directory for the block.

        Raises:
            UserError: it was removed.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UserError(f"no such container: {self.config.name}") from None
        try:
            yield fd
        finally:
            os.close(fd)

    @property
    def is_running(self) -> bool:
        """Whether its monitor lives."""
        return is_alive(os.path.join(self.path, LOCK))

    def state(self) -> ContainerState:
        """Return the state of now; one whose monitor was killed is adopted first [MON-6, MON-7].

        Raises:
            UserError: it was removed. EnvironmentFault: its state cannot be read.
        """
        with self.home() as home:
            try:
                state = read_state(home)
                if state.lives and not self.is_running:
                    state = read_state(home)  # it may just have ended, and told so
                    if state.lives:
                        state = self._revive(home, state)
            except (OSError, ValueError) as error:
                raise EnvironmentFault(
                    f"the state of container {self.config.name} cannot be read: {error}",
                    hints=[f"remove it: pybuild rm -f {self.config.short_id}"],
                ) from error
        return state

    def _revive(self, home: int, state: ContainerState) -> ContainerState:
        """Return the state of a container without a monitor: another is made for it, or it has ended."""
        from pybuild.containers.starting import adopt, is_spawning

        folder = os.path.dirname(self.path)
        is_there = state.pid and state.boot == (boot_id() or "") and born(state.pid) == state.born
        if state.boot == (boot_id() or "") and (is_there or is_spawning(folder)):
            order = read_order(home)
            with suppress(UserError):  # another command was faster
                adopt(folder, home, order, state.pid, None)
            until = time.monotonic() + _REVIVAL_S
            while time.monotonic() < until:
                state = read_state(home)
                if self.is_running or not state.lives:
                    return read_state(home)
                time.sleep(0.005)  # the monitor is between its fork and its lock
        now = time.time_ns()  # of its end no more is known than that it is over
        state = state._replace(status=EXITED, pid=0, exit_code=STATUS_UNKNOWN, finished=now)
        save_state(home, state)
        return state

    def note(self, action: str, more: Mapping[str, str] = _NOTHING) -> None:
        """Write into the journal that *action* was done to it."""
        from pybuild.containers.actions import note

        config = self.config
        about = {name: getattr(config, name) for name in ("id", "name", "image", "labels")}
        note(os.path.dirname(os.path.dirname(self.path)), about, action, more)

    def health(self) -> Mapping[str, Any] | None:
        """Return its health as docker shows it; None: nobody looks, it cannot be read, or it was removed."""
        if self.config.probe is None:
            return None
        from pybuild.containers.health import read_health

        with suppress(UserError), self.home() as home, suppress(OSError, ValueError):
            return read_health(home)
        return None

    def health_status(self) -> str:
        """Return how healthy it is: a word of `health`; "" where nobody looks."""
        return str((self.health() or {}).get("Status", ""))

    def connect(self) -> LocalLine | None:
        """Return a line to its monitor; None: it has none."""
        with self.home() as home, suppress(FileNotFoundError, ConnectionError):
            return LocalLine.into(home)
        return None

    def send(self, *message: str | float) -> bool:
        """Tell its monitor something; False: it has none."""
        monitor = self.connect()
        if monitor is None:
            return False
        with monitor:
            try:
                monitor.send(marshal.dumps(message))
            except ConnectionError:
                return False
        return True

    def ask(self, *message: Any) -> Any:
        """Have its monitor do something; return what it answers.

        Raises:
            UserError, EnvironmentFault: it does not run, or it cannot be done.
        """
        self.state()  # which finds a monitor for one that lost its own
        monitor = self.connect()
        answer: Any = None
        if monitor is not None:
            with monitor, suppress(ConnectionError):
                monitor.send(marshal.dumps(message))
                data = monitor.recv(MESSAGE_BYTES)
                answer = marshal.loads(data) if data else None
        if answer is None:
            raise UserError(f"container {self.config.name} is not running")
        if answer[0] == "fault":
            from pybuild.executor.workers.launch import error_of

            raise error_of(answer)
        return answer[1]

    def wait(self) -> int:
        """Return its exit code when it has ended, or is to be started again [CTR-60]."""
        while self.state().lives:
            monitor = self.connect()
            if monitor is None:
                time.sleep(0.005)  # it is about to end, or to begin
                continue
            with monitor, suppress(ConnectionError):
                monitor.send(marshal.dumps(("wait",)))
                if data := monitor.recv(MESSAGE_BYTES):
                    return int(marshal.loads(data)[1])
        return self.state().exit_code

    def wait_gone(self) -> None:
        """Return when no monitor watches it any more, or it was removed."""
        with suppress(UserError), self.home() as home:
            lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=home)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
            finally:
                os.close(lock)

    def stop(self, number: int, seconds: float, *, returns: bool = False) -> None:
        """Send it a signal, and SIGKILL *seconds* later; return when it has ended.

        Args:
            returns: it is started again then, and so is not removed.
        """
        with suppress(UserError):  # it removes itself
            if self.state().lives and self.send(stop_word(returns), number, float(seconds)):
                self.wait_gone()

    def end(self) -> None:
        """Kill it if it runs, though its state may be damaged; return when it has ended.

        Raises:
            UserError: it was removed. EnvironmentFault: its monitor was killed, and there is no other.
        """
        with self.home() as home, suppress(OSError, ValueError):
            read_state(home)
            self.state()  # which finds a monitor for one that lost its own
        self.send("kill", _SIGKILL)
        self.wait_gone()


def stop_word(returns: bool) -> str:
    """Return the word to a monitor for an end, after which the container *returns* or does not."""
    return "restart" if returns else "stop"
