"""The containers of a store: their records on disk, found, made, started, stopped and removed [MON-1].

<root>/containers/
  names/NAME      the id of the container of that name; to make it is to have the name
  spawner         a socket, see `starting`; spawner.lock
  ID/             one container, see `order`; a lease of its layers lasts as long as it
"""

from __future__ import annotations

import fcntl
import marshal
import os
import re
import shutil
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property

from pybuild.cache.content.syncer import boot_id
from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import is_alive, same_file
from pybuild.cache.store import Store
from pybuild.containers.config import ContainerConfig
from pybuild.containers.order import CONFIG, LOCK, NAMES, SOCKET, TREE, ContainerOrder
from pybuild.containers.starting import start
from pybuild.containers.state import (
    EXITED,
    LOST,
    NOT_STARTED,
    RUNNING,
    ContainerState,
    read_state,
    write_state,
)
from pybuild.containers.steps import networks_of, step_of
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.volumes.mountpoint import MountKind
from pybuild.volumes.volumes import Volumes

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Container:
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
        """Return the state of now: one that says it runs, and has no monitor, has ended unseen [MON-6, MON-7].

        Raises:
            UserError: it was removed. EnvironmentFault: its state cannot be read.
        """
        with self.home() as home:
            try:
                state = read_state(home)
                if state.status == RUNNING and not self.is_running:
                    state = read_state(home)  # it may just have ended, and told so
                    if state.status == RUNNING:
                        state = state._replace(status=EXITED, pid=0, exit_code=LOST)
                        write_state(home, state)
            except (OSError, ValueError) as error:
                raise EnvironmentFault(
                    f"the state of container {self.config.name} cannot be read: {error}",
                    hints=[f"remove it: pybuild rm -f {self.config.short_id}"],
                ) from error
        return state

    def send(self, *message: str | float) -> bool:
        """Tell its monitor something; False: it has none."""
        with self.home() as home, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as monitor:
            try:
                monitor.connect(f"/proc/self/fd/{home}/{SOCKET}")
                monitor.send(marshal.dumps(message))
            except (FileNotFoundError, ConnectionError):
                return False
        return True

    def wait(self) -> int:
        """Return its exit code when it has ended; of one that has not begun, 0 at once."""
        with self.home() as home:
            lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=home)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH)
            finally:
                os.close(lock)
        return self.state().exit_code

    def stop(self, number: int, seconds: float) -> None:
        """Send it a signal, and SIGKILL *seconds* later; return when it has ended."""
        if self.send("stop", number, seconds):
            self.wait()


class Containers:
    """All containers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = os.path.join(store.root, "containers")

    @cached_property
    def _names(self) -> str:
        """The directory of names; made with the first container."""
        folder = os.path.join(self._folder, NAMES)
        with faults("cannot keep containers", self._store.root):
            for path in (self._folder, folder):
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700)
        return folder

    def create(self, config: ContainerConfig) -> Container:
        """Make a container of *config*; its layers, which are leased already, are kept while it is.

        Raises:
            UserError: the name is none, or is taken. EnvironmentFault: it cannot be made.
        """
        path = os.path.join(self._folder, config.id)
        made = self._store.tmp.name("container")
        try:
            with self._reserved(config), faults("cannot make a container", self._store.root):
                self._store.leases.keep(
                    _lease(config.id), [("delta", one) for one in config.deltas]
                )
                os.mkdir(made, 0o700)
                os.mkdir(os.path.join(made, TREE), 0o755)
                with open(os.path.join(made, CONFIG), "x", encoding="utf-8") as file:
                    file.write(config.to_json())
                os.rename(made, path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            self._forget(config)
            raise
        return Container(path, config)

    @contextmanager
    def _reserved(self, config: ContainerConfig) -> Generator[None]:
        """Have the name for the block, in which the container is to come to be.

        Raises:
            UserError: it is none, or is taken.
        """
        if not _NAME.match(config.name):
            raise UserError(
                f"Invalid container name ({config.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        path = os.path.join(self._names, config.name)
        with faults("cannot keep containers", self._store.root):
            fd = self._take_name(path, config)
        try:
            yield
        finally:
            os.close(fd)

    def _take_name(self, path: str, config: ContainerConfig) -> int:
        """Return the locked file of the name, with the id in it."""
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                id = os.pread(fd, 100, 0).decode("ascii", "replace")
                if not same_file(fd, path):
                    os.close(fd)
                    continue
                if id and os.path.lexists(os.path.join(self._folder, id)):
                    raise UserError(
                        f'the container name "{config.name}" is already in use by container '
                        f'"{id[:12]}"',
                        hints=[f"remove that one (pybuild rm {config.name}), or take another name"],
                    )
                if id:  # who made or removed it was killed in the middle
                    self._store.leases.drop(_lease(id))
                os.ftruncate(fd, 0)
                os.pwrite(fd, config.id.encode(), 0)
            except BaseException:
                os.close(fd)
                raise
            return fd

    def _forget(self, config: ContainerConfig) -> None:
        """Give back the name and the layers of a container that is not there any more."""
        path = os.path.join(self._names, config.name)
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # not from under who takes it over
            if file.read() == config.id:
                os.unlink(path)
        self._store.leases.drop(_lease(config.id))

    def names(self) -> frozenset[str]:
        """Return the names that are taken."""
        return frozenset(os.listdir(self._names))

    def list(self) -> list[Container]:
        """Return all of them, the newest first."""
        try:
            ids = [name for name in os.listdir(self._folder) if _ID.match(name)]
        except FileNotFoundError:
            return []
        found = [one for one in map(self._read, ids) if one is not None]
        return sorted(found, key=lambda one: (one.config.created, one.config.id), reverse=True)

    def _read(self, id: str) -> Container | None:
        path = os.path.join(self._folder, id)
        try:
            with open(os.path.join(path, CONFIG), "rb") as file:
                return Container(path, ContainerConfig.of_json(file.read()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._store.warn(f"container {id[:12]} cannot be read: {error}")
            return None

    def find(self, text: str) -> Container:
        """Return the container with this name or id, or the one whose id begins so.

        Raises:
            UserError: there is none, or several begin so.
        """
        id = text
        try:
            # Looked for, not made: who asks for a container need not be the first to have one.
            with open(os.path.join(self._folder, NAMES, text), encoding="ascii") as file:
                id = file.read()
        except (OSError, ValueError):
            pass
        found = [self._read(id)] if _ID.match(id) else []
        if not found and re.fullmatch(r"[0-9a-f]{1,63}", text):
            found = [one for one in self.list() if one.config.id.startswith(text)]
        if len(found) > 1:
            raise UserError(f"several containers have ids that begin with {text}")
        if not found or found[0] is None:
            raise UserError(
                f"no such container: {text}", hints=["pybuild ps -a lists what there is"]
            )
        return found[0]

    def start(self, container: Container, rootless: bool | None = None) -> Sequence[str]:
        """Start it and return the warnings; one that runs goes on.

        Raises:
            UserError, EnvironmentFault: it cannot be started.
        """
        if container.is_running:
            return ()
        config = container.config
        with container.home() as home:
            mounts = [Volumes(self._store).step_mount(mount) for mount in config.mounts]
            step = step_of(config, container.path, self._lowers(config), mounts)
            order = ContainerOrder(
                config.id,
                step,
                boot_id() or "",
                networks_of(config, os.path.join(self._store.root, "networks")),
                self._joined(config),
            )
            try:
                return start(self._folder, home, order, rootless)
            except (UserError, EnvironmentFault) as error:
                state = read_state(home)
                if container.is_running and state.status == RUNNING:
                    return ()  # another command was faster
                state = state._replace(error=error.message, exit_code=NOT_STARTED)
                write_state(home, state)
                raise

    def _joined(self, config: ContainerConfig) -> int:
        """Return the process of the container whose network this one shares, 0: it shares none.

        Raises:
            UserError: that container does not run.
        """
        kind, _, name = config.network.partition(":")
        if kind != "container" or not name:
            return 0
        other = self.find(name)
        state = other.state()
        if state.status != RUNNING:
            raise UserError(
                f"cannot join network of a non running container: {other.config.name}",
                hints=[f"start it first: pybuild start {other.config.name}"],
            )
        return state.pid

    def _lowers(self, config: ContainerConfig) -> Sequence[str]:
        """Return the directories of its layers, which its lease keeps.

        Raises:
            EnvironmentFault: one is not there.
        """
        for name in config.deltas:
            if not self._store.deltas.has(name):
                raise EnvironmentFault(
                    f"container {config.name}: its layer {name} is not in the store any more",
                    hints=["the store was damaged: remove the container, and create it again"],
                )
        return [self._store.deltas.path(name) for name in config.deltas]

    def volume_users(self, name: str) -> Sequence[str]:
        """Return the ids of the containers that a volume belongs to, running or not."""
        return [one.config.id for one in self.list() if name in _volumes(one)]

    def used_volumes(self) -> frozenset[str]:
        """Return the names of the volumes that containers have."""
        return frozenset(name for one in self.list() for name in _volumes(one))

    def sizes(self, container: Container) -> tuple[int, int]:
        """Return the bytes that it wrote, and those of its whole tree; files of all ids need a worker."""
        tree = os.path.join(container.path, TREE)
        wrote = max(0, self._store.measure(tree).size - os.stat(tree).st_blocks * 512)
        below = map(self._store.deltas.path, container.config.deltas)
        return wrote, wrote + sum(self._store.measure(path).size for path in below)

    def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Remove it with what it wrote.

        Args:
            volumes: and the volumes without a name of their own that nobody else uses [CTR-39].

        Raises:
            UserError: it runs, and *force* was not said.
        """
        if container.is_running:
            if not force:
                raise UserError(
                    f'container "{container.config.name}" is running',
                    hints=["stop it first, or remove it with -f"],
                )
            container.stop(9, 0.0)
        with faults(f"cannot remove container {container.config.name}", self._store.root):
            self._store.tmp.trash(container.path)
        self._forget(container.config)
        if volumes:
            self._remove_volumes(container)

    def _remove_volumes(self, container: Container) -> None:
        """Remove the anonymous volumes that a container had alone."""
        known = Volumes(self._store)
        for name in _volumes(container):
            with suppress(UserError):  # somebody else has it, or removed it
                if known.find(name).is_anonymous:
                    known.remove(name, self.volume_users)


def _volumes(container: Container) -> list[str]:
    """Return the names of its volumes."""
    mounts = container.config.mounts
    return [mount.source for mount in mounts if mount.kind is MountKind.VOLUME]


def _lease(id: str) -> str:
    return f"container-{id}"
