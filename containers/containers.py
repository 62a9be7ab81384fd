"""The containers of a store: their records on disk, found, made, started, stopped and removed [MON-1].

<root>/containers/
  names/NAME      the id of the container of that name; to make it is to have the name
  spawner         a socket, see `starting`; spawner.lock
  ID/             one container, see `order`; a lease of its layers lasts as long as it
"""

from __future__ import annotations

import fcntl
import os
from time import time_ns

from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import boot_id
from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.lines import id_of_name, is_id, may_begin_id
from pybuild.containers.order import CONFIG, HOST, TREE, ContainerOrder, joined_name, write_order
from pybuild.containers.reservations import Reservations, lease_of, read_config
from pybuild.containers.state import (
    NOT_STARTED,
    PAUSED,
    RUNNING,
    ContainerState,
    read_state,
    save_state,
)
from pybuild.model.border import packed
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.lightlib import contextmanager, suppress
from pybuild.volumes.mountpoint import MountKind

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Generator, Sequence

    from pybuild.cache.store import Store
    from pybuild.containers.order import RestartPolicy, StreamAttachment
    from pybuild.executor.steps.spec import StepLimits, StepMount

_Mark = tuple[int, int, int]
"""The inode of a config, when that was changed last, and its bytes: each config is a file of its own, renamed into place."""
SETTLED_NS = 1_000_000_000
"""A file that was made so long ago is not replaced within the same tick of the disk's clock."""
STOP_SECONDS = 10.0


class Containers:
    """All containers of a store."""

    def __init__(self, store: Store) -> None:
        self.root = store.root
        self._store = store
        self._folder = os.path.join(store.root, "containers")
        self._read_before: dict[str, tuple[_Mark, Container]] = {}
        self.reservations = Reservations(store, self._folder)

    def names(self) -> frozenset[str]:
        """Return the names that are taken."""
        return self.reservations.names()

    def create(self, config: ContainerConfig) -> Container:
        """Make a container of *config*; its layers, which are leased already, are kept while it is.

        Raises:
            UserError: the name is none, or is taken. EnvironmentFault: it cannot be made.
        """
        path = os.path.join(self._folder, config.id)
        partial = self._store.tmp.name("container")
        try:
            with (
                self.reservations.reserved(config),
                faults("cannot make a container", self._store.root),
            ):
                # Its image, too, unless somebody removes that by name: it can be made anew of it.
                image = [("blob", one) for one in config.image_digests]
                layers = [("delta", one) for one in config.deltas]
                self._store.leases.keep(lease_of(config.id), [*layers, *image])
                os.mkdir(partial, 0o700)
                os.mkdir(os.path.join(partial, TREE), 0o755)
                with open(os.path.join(partial, CONFIG), "x", encoding="utf-8") as file:
                    file.write(config.to_json())
                os.rename(partial, path)
        except BaseException:
            from shutil import rmtree

            rmtree(partial, ignore_errors=True)
            self.reservations.forget(config)
            raise
        made = Container(path, config)
        made.note("create")
        return made

    def list(self) -> list[Container]:
        """Return all of them, the newest first."""
        try:
            ids = [name for name in os.listdir(self._folder) if is_id(name)]
        except FileNotFoundError:
            return []
        matches = [one for one in map(self._read, ids) if one is not None]
        for gone in self._read_before.keys() - ids:
            self._read_before.pop(gone, None)
        return sorted(matches, key=lambda one: (one.config.created, one.config.id), reverse=True)

    def states(self) -> Generator[tuple[Container, ContainerState]]:
        """Yield all of them, the newest first, with their states; those that are removed meanwhile are left out."""
        for one in self.list():
            try:
                state = one.state()
            except UserError:
                continue
            yield one, state

    def _read(self, id: str) -> Container | None:
        path = os.path.join(self._folder, id)
        try:
            facts = os.stat(f"{path}/{CONFIG}", follow_symlinks=False)
            mark = (facts.st_ino, facts.st_ctime_ns, facts.st_size)
            known = self._read_before.get(id)
            if known is not None and known[0] == mark:
                return known[1]
            read = Container(path, read_config(path))
            if time_ns() - facts.st_ctime_ns > SETTLED_NS:
                self._read_before[id] = mark, read
            return read
        except FileNotFoundError:
            self._read_before.pop(id, None)
            return None
        except (AttributeError, OSError, ValueError, TypeError) as error:
            self._store.warn(f"container {id[:12]} cannot be read: {error}")
            return None

    def find(self, text: str) -> Container:
        """Return the container with this name or id, the one whose id begins so, or that of a link PARENT/ALIAS.

        Raises:
            UserError: there is none, or several begin so.
        """
        if text.count("/", 1) == 1:
            from pybuild.containers.linking import linked_by

            return linked_by(self.find, text)
        id = id_of_name(self._folder, text)
        matches = [self._read(id)] if is_id(id) else []
        if not matches and may_begin_id(text):
            matches = [one for one in self.list() if one.config.id.startswith(text)]
        if len(matches) > 1:
            raise UserError(f"several containers have ids that begin with {text}")
        if not matches or matches[0] is None:
            raise UserError(
                f"no such container: {text}", hints=["pybuild ps -a lists what there is"]
            )
        return matches[0]

    @contextmanager
    def turn(self, container: Container) -> Generator[Container]:
        """Let no other command begin, change or remove it for the block; yield it as it is now.

        Raises:
            UserError: it was removed.
        """
        with container.home() as home:
            fcntl.flock(home, fcntl.LOCK_EX)
            now = self._read(container.config.id)
            if now is None:
                raise UserError(f"no such container: {container.config.name}")
            yield now

    def start(
        self,
        container: Container,
        rootless: bool | None = None,
        attached: Sequence[tuple[_socket.socket, StreamAttachment]] = (),
    ) -> Sequence[str]:
        """Start it and return the warnings; one that runs goes on.

        Args:
            attached: the monitor's ends of lines to those who are there from the first byte on.

        Raises:
            UserError, EnvironmentFault: it cannot be started.
        """
        with self.turn(container) as now, now.home() as home:
            return self._start(now, home, rootless, attached)

    def restart(self, container: Container, number: int, seconds: float) -> Sequence[str]:
        """End it as `Container.stop` does, start it, and return the warnings.

        Raises:
            UserError, EnvironmentFault: it cannot be started.
        """
        container.stop(number, seconds, returns=True)
        warnings = self.start(container)
        container.note("restart")
        return warnings

    def _start(
        self,
        container: Container,
        home: int,
        rootless: bool | None,
        attached: Sequence[tuple[_socket.socket, StreamAttachment]],
    ) -> Sequence[str]:
        from pybuild.containers.linking import check_links
        from pybuild.containers.signals import signal_number
        from pybuild.containers.starting import NotExecuted, start
        from pybuild.containers.steps import networks_of, step_of

        state = container.state()
        if state.status == PAUSED:
            raise UserError(
                f"container {container.config.name} is paused",
                hints=["pybuild unpause lets it go on"],
            )
        if state.lives:
            return ()
        container.wait_gone()  # its monitor may be about to leave
        config = self._named_as_joined(container.config)
        check_links(self.find, config)
        mounts = self._mounts(config)
        step = step_of(config, container.path, self._lowers(config), mounts)
        if step.terminal is not None:  # a program looks at its size at once
            shown = (one.size for _, one in attached if any(one.size))
            step = step._replace(terminal=next(shown, step.terminal))
        joined_network, joined_ipc, joined_pids = self._joined(config)
        order = ContainerOrder(
            config.id,
            step,
            boot_id() or "",
            networks_of(config, os.path.join(self.root, "networks")),
            joined_network,
            joined_ipc,
            joined_pids,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            stop_signal=signal_number(config.stop_signal or "SIGTERM"),
            restart=config.restart,
            log=config.log,
            health=config.probe,
            auto_remove=config.auto_remove,
            root=self._store.root,
        )
        with faults(f"cannot start container {config.name}", self._store.root):
            write_order(home, order)
        try:
            return start(self._folder, home, order, rootless, attached)
        except (UserError, EnvironmentFault) as error:
            state = read_state(home)
            if container.is_running and state.status == RUNNING:
                return ()  # it was only slow to say so
            status = error.status if isinstance(error, NotExecuted) else NOT_STARTED
            save_state(home, state._replace(error=error.message, exit_code=status))
            raise

    def _named_as_joined(self, config: ContainerConfig) -> ContainerConfig:
        """Return *config* with the host's name of the container whose network it shares [CTR-6].

        Raises:
            UserError: that is itself, or there is none.
        """
        if not (name := joined_name(config.network)) or config.namespaces.uts == HOST:
            return config
        other = self.find(name).config
        if other.id == config.id:
            raise UserError("cannot join own network", hints=["name another container"])
        return config._replace(hostname=other.hostname, domainname=other.domainname)

    def _mounts(self, config: ContainerConfig) -> Sequence[StepMount]:
        if not config.mounts:
            return ()
        from pybuild.volumes.volumes import Volumes

        return [Volumes(self._store).step_mount(mount) for mount in config.mounts]

    def _joined(self, config: ContainerConfig) -> tuple[str, str, str]:
        """Return the ids of the containers whose network, IPC and PID namespaces this one shares, "": none's.

        Raises:
            UserError: one of them does not run, or lets nobody in.
        """
        spaces = config.namespaces
        return (
            self._joined_id("network", joined_name(config.network)),
            self._joined_id("IPC", joined_name(spaces.ipc)),
            self._joined_id("PID", joined_name(spaces.pid)),
        )

    def _joined_id(self, kind: str, name: str) -> str:
        if not name:
            return ""
        other = self.find(name)
        if other.state().status != RUNNING:
            raise UserError(
                f"cannot join {kind} of a non running container: {other.config.name}",
                hints=[f"start it first: pybuild start {other.config.name}"],
            )
        if kind == "IPC" and other.config.namespaces.ipc != "shareable":
            raise UserError(
                f"can't join IPC of container {other.config.id}: non-shareable IPC",
                hints=["create that one with --ipc shareable"],
            )
        return other.config.id

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

    def rename(self, container: Container, name: str) -> None:
        """Give it another name [CTR-61].

        Raises:
            UserError: the name is none, is its own, or is taken.
        """
        with self.turn(container) as now:
            config = now.config._replace(name=name.removeprefix("/"))
            if config.name == now.config.name:
                raise UserError("Renaming a container with the same name as its current name")
            with self.reservations.reserved(config):
                self.write(now, config)
            self.reservations.give_back(now.config)
        now._replace(config=config).note("rename", {"oldName": f"/{now.config.name}"})

    def write(self, container: Container, config: ContainerConfig) -> None:
        """Replace its config, whole or not at all.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        path = os.path.join(container.path, CONFIG)
        made = f"{path}.{os.urandom(4).hex()}"
        with faults(f"cannot change container {config.name}", self._store.root):
            with open(made, "x", encoding="utf-8") as file:
                file.write(config.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.rename(made, path)

    def update(
        self,
        container: Container,
        given: StepLimits,
        policy: RestartPolicy | None,
        *,
        has_cpus: bool = False,
    ) -> Sequence[str]:
        """Give it other limits, see `limits_with`, and another restart policy; return warnings [CTR-65].

        Raises:
            UserError, EnvironmentFault: they contradict it, or the kernel refuses them.
        """
        if policy is not None and policy.name != "no" and container.config.auto_remove:
            raise UserError(
                f"cannot update container {container.config.name}: Restart policy cannot be updated "
                "because AutoRemove is enabled for the container"
            )
        from pybuild.containers.updating import limits_with

        warnings: Sequence[str] = ()
        _, changes = limits_with(container.config, given, has_cpus=has_cpus)
        if container.state().lives:
            # Not in our turn: a monitor that is about to remove its container would wait for it.
            warnings = container.ask("update", packed(changes), packed(policy))
        with self.turn(container) as now:
            config = now.config._replace(
                limits=limits_with(now.config, given, has_cpus=has_cpus)[0],
                has_cpus=has_cpus or now.config.has_cpus,
                restart=now.config.restart if policy is None else policy,
            )
            self.write(now, config)
        now.note("update")
        return warnings

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
        with self.turn(container) as now:
            if force:
                now.end()
            else:
                _check_ended(now)
            with faults(f"cannot remove container {now.config.name}", self._store.root):
                self._store.tmp.trash(now.path)
            self.reservations.forget(now.config)
        now.note("destroy")
        if volumes:
            self._remove_volumes(now)

    def _remove_volumes(self, container: Container) -> None:
        """Remove the anonymous volumes that a container had alone."""
        names = _volumes(container)
        if not names:
            return
        from pybuild.volumes.volumes import Volumes

        known = Volumes(self._store)
        for name in names:
            with suppress(UserError):  # somebody else has it, or removed it
                if known.find(name).is_anonymous:
                    known.remove(name, self.volume_users)


def _check_ended(container: Container) -> None:
    """Refuse to remove what runs.

    Raises:
        UserError: it does.
    """
    state = container.state()
    if state.status == PAUSED:
        raise UserError(
            f'container "{container.config.name}" is paused and must be unpaused first',
            hints=["pybuild unpause, then stop; or remove it with -f"],
        )
    if state.lives:
        raise UserError(
            f'container "{container.config.name}" is running',
            hints=["stop it first, or remove it with -f"],
        )


def _volumes(container: Container) -> list[str]:
    """Return the names of its volumes."""
    mounts = container.config.mounts
    return [mount.source for mount in mounts if mount.kind == MountKind.VOLUME]
