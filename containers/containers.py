"""The containers of a store: their records on disk, found, made, started, stopped and removed [MON-1].

<root>/containers/
  names/NAME      the id of the container of that name; to make it is to have the name
  spawner         a socket, see `starting`; spawner.lock
  ID/             one container, see `order`; a lease of its layers lasts as long as it
"""

from __future__ import annotations

import fcntl
import json
import marshal
import os
import re
import shutil
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, field
from functools import cached_property
from typing import Any

from pybuild.cache.content.syncer import boot_id
from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import is_alive, same_file
from pybuild.cache.store import Store
from pybuild.containers.order import LOCK, NAMES, SOCKET, SPEC, TREE, WORK, ContainerOrder
from pybuild.containers.starting import start
from pybuild.containers.state import (
    CREATED,
    EXITED,
    LOST,
    RUNNING,
    ContainerState,
    read_state,
    write_state,
)
from pybuild.executor import network
from pybuild.executor.steps.spec import StepMount, StepMountType, StepSpec
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.jsontext import as_object

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_ID = re.compile(r"[0-9a-f]{64}\Z")
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container as it was asked for, which nothing changes.

    Attributes:
        id: 64 hexadecimal digits [CTR-5].
        image: as people named it; *manifest* is its digest.
        deltas: of its image's layers, base first.
        args, env, cwd, user: of its first process, the image's defaults included [CTR-1, CTR-2].
        resolv_conf: the text of its /etc/resolv.conf.
        binds: source on the host, target, read-only.
        created: nanoseconds since the epoch.
    """

    id: str
    name: str
    image: str
    manifest: str
    deltas: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    network: str = "host"
    resolv_conf: str = ""
    binds: tuple[tuple[str, str, bool], ...] = ()
    readonly: bool = False
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    created: int = 0

    @property
    def short_id(self) -> str:
        return self.id[:12]

    @staticmethod
    def of_json(document: Mapping[str, Any]) -> ContainerSpec:
        """Return the container that `asdict` gave *document* of.

        Raises:
            TypeError, KeyError: the document is damaged.
        """
        known = dict(document)
        for name in ("deltas", "args", "env"):
            known[name] = tuple(known[name])
        known["binds"] = tuple((source, target, ro) for source, target, ro in known["binds"])
        return ContainerSpec(**known)


@dataclass(frozen=True, slots=True)
class Container:
    """A container that exists: its directory, and what is written there."""

    path: str
    spec: ContainerSpec

    @contextmanager
    def home(self) -> Generator[int]:
        """Open its directory for the block.

        Raises:
            UserError: it was removed.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise UserError(f"no such container: {self.spec.name}") from None
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
                    f"the state of container {self.spec.name} cannot be read: {error}",
                    hints=[f"remove it: pybuild rm -f {self.spec.short_id}"],
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

    def create(self, spec: ContainerSpec) -> Container:
        """Make a container of *spec*; its layers, which are leased already, are kept while it is.

        Raises:
            UserError: the name is none, or is taken. EnvironmentFault: it cannot be made.
        """
        path = os.path.join(self._folder, spec.id)
        made = self._store.tmp.name("container")
        try:
            with self._reserved(spec), faults("cannot make a container", self._store.root):
                self._store.leases.keep(_lease(spec.id), [("delta", one) for one in spec.deltas])
                os.mkdir(made, 0o700)
                os.mkdir(os.path.join(made, TREE), 0o755)
                with open(os.path.join(made, SPEC), "x", encoding="utf-8") as file:
                    json.dump(asdict(spec), file, sort_keys=True)
                os.rename(made, path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            self._forget(spec)
            raise
        return Container(path, spec)

    @contextmanager
    def _reserved(self, spec: ContainerSpec) -> Generator[None]:
        """Have the name for the block, in which the container is to come to be.

        Raises:
            UserError: it is none, or is taken.
        """
        if not _NAME.match(spec.name):
            raise UserError(
                f"Invalid container name ({spec.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        path = os.path.join(self._names, spec.name)
        with faults("cannot keep containers", self._store.root):
            fd = self._take_name(path, spec)
        try:
            yield
        finally:
            os.close(fd)

    def _take_name(self, path: str, spec: ContainerSpec) -> int:
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
                        f'the container name "{spec.name}" is already in use by container '
                        f'"{id[:12]}"',
                        hints=[f"remove that one (pybuild rm {spec.name}), or take another name"],
                    )
                if id:  # who made or removed it was killed in the middle
                    self._store.leases.drop(_lease(id))
                os.ftruncate(fd, 0)
                os.pwrite(fd, spec.id.encode(), 0)
            except BaseException:
                os.close(fd)
                raise
            return fd

    def _forget(self, spec: ContainerSpec) -> None:
        """Give back the name and the layers of a container that is not there any more."""
        path = os.path.join(self._names, spec.name)
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # not from under who takes it over
            if file.read() == spec.id:
                os.unlink(path)
        self._store.leases.drop(_lease(spec.id))

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
        return sorted(found, key=lambda one: (one.spec.created, one.spec.id), reverse=True)

    def _read(self, id: str) -> Container | None:
        path = os.path.join(self._folder, id)
        try:
            with open(os.path.join(path, SPEC), "rb") as file:
                return Container(path, ContainerSpec.of_json(as_object(json.loads(file.read()))))
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
            found = [one for one in self.list() if one.spec.id.startswith(text)]
        if len(found) > 1:
            raise UserError(f"several containers have ids that begin with {text}")
        if not found or found[0] is None:
            raise UserError(
                f"no such container: {text}", hints=["pybuild ps -a lists what there is"]
            )
        return found[0]

    def start(
        self, container: Container, lowers: Sequence[str], rootless: bool | None = None
    ) -> Sequence[str]:
        """Start it and return the warnings; *lowers* are the directories of its deltas.

        Raises:
            UserError, EnvironmentFault: it cannot be started, or runs.
        """
        with container.home() as home:
            try:
                os.mkdir(WORK, 0o700, dir_fd=home)
            except FileExistsError:
                pass
            step = _step(container, lowers)
            order = ContainerOrder(container.spec.id, step, boot_id() or "")
            try:
                return start(self._folder, home, order, rootless)
            except (UserError, EnvironmentFault) as error:
                if not container.is_running:
                    write_state(home, ContainerState(CREATED, error=error.message, exit_code=127))
                raise

    def remove(self, container: Container, *, force: bool = False) -> None:
        """Remove it with what it wrote.

        Raises:
            UserError: it runs, and *force* was not said.
        """
        if container.is_running:
            if not force:
                raise UserError(
                    f'container "{container.spec.name}" is running',
                    hints=["stop it first, or remove it with -f"],
                )
            container.stop(9, 0.0)
        with faults(f"cannot remove container {container.spec.name}", self._store.root):
            self._store.tmp.trash(container.path)
        self._forget(container.spec)


def _lease(id: str) -> str:
    return f"container-{id}"


def _step(container: Container, lowers: Sequence[str]) -> StepSpec:
    spec = container.spec
    return StepSpec(
        lowers=tuple(lowers),
        upper=os.path.join(container.path, TREE),
        work=os.path.join(container.path, WORK),
        args=spec.args,
        env=spec.env,
        cwd=spec.cwd,
        user=spec.user,
        hostname=spec.hostname,
        network=spec.network,
        mounts=tuple(
            StepMount(StepMountType.BIND_PATH, target, source, readonly=readonly)
            for source, target, readonly in spec.binds
        ),
        resolv_conf=spec.resolv_conf.encode(),
        hosts=network.hosts(spec.hostname).encode(),
        readonly=spec.readonly,
    )
