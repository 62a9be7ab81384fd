"""Names of containers: a file each, whose making is the reservation; its text is the id [MON-2, CTR-5].

Whoever makes, removes or renames a container holds the lock of its name's file meanwhile. One that is
killed in the middle leaves a name of nothing, and a lease of layers: the next who wants the name takes
both, and so does whoever prunes.
"""

from __future__ import annotations

import fcntl
import os

from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import same_file
from pybuild.cache.disk.plainfile import whole
from pybuild.containers.config import ContainerConfig
from pybuild.containers.lines import NAMES, is_name
from pybuild.containers.order import CONFIG
from pybuild.model.errors import UserError
from pybuild.model.lightlib import cached_property, contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from pybuild.cache.store import Store


class Reservations:
    """The names of a store's containers.

    Args:
        folder: of all containers of the store.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    @cached_property
    def _names(self) -> str:
        """The directory of names; made with the first container."""
        folder = os.path.join(self._folder, NAMES)
        with faults("cannot keep containers", self._store.root):
            for path in (self._folder, folder):
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700)
        return folder

    @contextmanager
    def reserved(self, config: ContainerConfig) -> Generator[None]:
        """Have the name for the block, in which the container is to come to be.

        Raises:
            UserError: it is none, or is taken.
        """
        if not is_name(config.name):
            raise UserError(
                f"Invalid container name ({config.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                hints=["a name has 2 to 255 characters, the first a letter or a digit"],
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
                if id and self._has(id, config.name):
                    raise UserError(
                        f'the container name "{config.name}" is already in use by container "{id}"',
                        hints=[f"remove that one (pybuild rm {config.name}), or take another name"],
                    )
                self._drop_unfinished(id)
                os.ftruncate(fd, 0)
                os.pwrite(fd, config.id.encode(), 0)
            except BaseException:
                os.close(fd)
                raise
            return fd

    def forget(self, config: ContainerConfig) -> None:
        """Give back the name and the layers of a container that is not there any more."""
        self._store.leases.drop(
            lease_of(config.id)
        )  # what it had can be found by its name till then
        self.give_back(config)

    def give_back(self, config: ContainerConfig) -> None:
        """Let others have the name."""
        path = os.path.join(self._names, config.name)
        with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)  # not from under who takes it over
            if file.read() == config.id:
                os.unlink(path)

    def _has(self, id: str, name: str) -> bool:
        """Return whether there is such a container, and it has not been given another name since."""
        if not os.path.lexists(os.path.join(self._folder, id)):
            return False
        try:
            return read_config(os.path.join(self._folder, id)).name == name
        except (OSError, ValueError, TypeError, KeyError):
            return True  # it may be damaged, and is there

    def _drop_unfinished(self, id: str) -> None:
        """Keep no layers for a container that is not there: who made or removed it was killed in the middle."""
        if id and not os.path.lexists(os.path.join(self._folder, id)):
            self._store.leases.drop(lease_of(id))

    def give_up_unfinished(self) -> None:
        """Give back names and layers that commands held which were killed in the middle."""
        folder = os.path.join(self._folder, NAMES)
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            with suppress(OSError, ValueError), open(path, encoding="ascii") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)  # else it is at work
                id = file.read()
                if same_file(file.fileno(), path) and not self._has(id, name):
                    self._drop_unfinished(id)
                    os.unlink(path)

    def names(self) -> frozenset[str]:
        """Return the names that are taken."""
        return frozenset(os.listdir(self._names))


def read_config(path: str) -> ContainerConfig:
    """Return the config of the container whose directory is *path*.

    Raises:
        OSError, ValueError, TypeError, KeyError: there is none, or it is damaged.
    """
    fd = os.open(f"{path}/{CONFIG}", os.O_RDONLY | os.O_CLOEXEC)
    return ContainerConfig.of_json(whole(fd))


def lease_of(id: str) -> str:
    """Return the name under which a container's layers are kept."""
    return f"container-{id}"
