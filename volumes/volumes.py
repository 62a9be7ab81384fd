"""The volumes of a store: made, found, held, removed.

<root>/volumes/NAME/
  volume.json    as it was made, which nothing changes
  lock           held, shared, by who makes or runs something with it; alone, by who removes it
  _data/         its files, of any owners

A volume appears and goes by one rename, so there is none without its record.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager

from pybuild.cache.disk import journal
from pybuild.cache.disk.atomic import faults
from pybuild.cache.disk.locks import same_file
from pybuild.cache.store import Store
from pybuild.executor.steps.spec import StepMount
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.jsontext import as_object
from pybuild.volumes.mountpoint import LOCAL, MountKind, MountPoint
from pybuild.volumes.volume import ANONYMOUS, LocalVolume, check_name, check_options, is_name

DATA = "_data"
_RECORD = "volume.json"
_LOCK = "lock"
Users = Callable[[str], Sequence[str]]
"""Returns the ids of the containers that a volume belongs to, running or not."""


class Volumes:
    """All volumes of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = os.path.join(store.root, "volumes")

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> LocalVolume:
        """Make a volume and return it; one that is there already is returned as it is.

        Raises:
            UserError: the name or an option is none. EnvironmentFault: it cannot be made.
        """
        if driver not in ("", LOCAL):
            raise UserError(
                f'plugin "{driver}" not found', hints=[f"there is the driver {LOCAL} alone"]
            )
        known = dict(labels or {})
        if name:
            check_name(name)
        else:
            name = os.urandom(32).hex()
            known[ANONYMOUS] = ""
        check_options(options or {})
        volume = LocalVolume(
            name=name,
            mountpoint=self.mountpoint(name),
            options=dict(options or {}),
            labels=known,
            created=time.time_ns(),
        )
        with faults(f"cannot make volume {name}", self._store.root):
            if not self._make(volume):
                return self.find(name)
        self._note("create", name)
        return volume

    def _note(self, action: str, name: str) -> None:
        journal.note(self._store.root, journal.VOLUME, action, name, {"driver": LOCAL})

    def _make(self, volume: LocalVolume) -> bool:
        """Make it, or return False: it is there."""
        try:
            self._store.disk.mkdir(self._folder)
        except FileExistsError:
            pass
        if os.path.lexists(self._path(volume.name)):
            return False
        made = self._store.tmp.name("volume")
        try:
            self._store.disk.mkdir(made)
            self._store.disk.mkdir(os.path.join(made, DATA), 0o755)
            fd = self._store.disk.create(os.path.join(made, _RECORD))
            try:
                self._store.disk.write(fd, json.dumps(volume.to_json(), sort_keys=True).encode())
                self._store.disk.flush(fd)
            finally:
                os.close(fd)
            os.close(self._store.disk.create(os.path.join(made, _LOCK)))
            self._store.disk.rename(made, self._path(volume.name))
            self._store.disk.flush_dir(self._folder)
        except OSError as error:
            self._store.tmp.trash(made)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False  # somebody else was faster
            raise
        return True

    def find(self, name: str) -> LocalVolume:
        """Return the volume of that name.

        Raises:
            UserError: there is none. EnvironmentFault: its record cannot be read.
        """
        missing = UserError(
            f"get {name}: no such volume", hints=["pybuild volume ls lists what there is"]
        )
        if not is_name(name):
            raise missing
        try:
            with open(os.path.join(self._path(name), _RECORD), "rb") as file:
                document = as_object(json.loads(file.read()))
            return LocalVolume.of_json(document, self.mountpoint(name))
        except FileNotFoundError:
            raise missing from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EnvironmentFault(
                f"volume {name} cannot be read: {error}",
                hints=[f"its files are in {self.mountpoint(name)}"],
            ) from error

    def list(self) -> list[LocalVolume]:
        """Return all of them by name; one that cannot be read is warned about."""
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        known: list[LocalVolume] = []
        for name in names:
            try:
                known.append(self.find(name))
            except UserError:
                pass  # just removed, or nothing of ours
            except EnvironmentFault as fault:
                self._store.warn(fault.message)
        return known

    def has(self, name: str) -> bool:
        """Return whether there is a volume of that name."""
        return os.path.isdir(self._path(name)) if is_name(name) else False

    def size(self, volume: LocalVolume) -> int:
        """Return the bytes that its files take."""
        return 0 if volume.options else self._store.measure(volume.mountpoint).size

    def step_mount(self, mount: MountPoint) -> StepMount:
        """Return a container's mount for the sandbox.

        Raises:
            UserError: its volume is not there any more.
        """
        if mount.kind != MountKind.VOLUME:
            return mount.step_mount()
        volume = self.find(mount.source)
        return volume.mount(mount.target, readonly=mount.readonly, subpath=mount.subpath)

    @contextmanager
    def held(self, name: str) -> Generator[LocalVolume]:
        """Keep the volume from being removed for the block, which gives it to a container.

        Raises:
            UserError: there is none.
        """
        fd = self._lock(name, fcntl.LOCK_SH)
        try:
            yield self.find(name)
        finally:
            os.close(fd)

    def remove(self, name: str, users: Users) -> None:
        """Remove the volume with its files.

        Raises:
            UserError: there is none, or containers have it.
        """
        self.find(name)
        try:
            fd = self._lock(name, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"remove {name}: volume is in use",
                hints=["a command is just giving it to a container, or runs with it"],
            ) from None
        try:
            ids = list(users(name))
            if ids:
                raise UserError(
                    f"remove {name}: volume is in use - [{', '.join(ids)}]",
                    hints=[f"remove what uses it first: pybuild rm {ids[0][:12]}"],
                )
            with faults(f"cannot remove volume {name}", self._store.root):
                self._store.tmp.trash(self._path(name))
            self._note("destroy", name)
        finally:
            os.close(fd)

    def _lock(self, name: str, kind: int) -> int:
        """Return the locked file of the volume, which is there as long as that is not closed.

        Raises:
            UserError: there is none. BlockingIOError: *kind* does not wait, and others hold it.
        """
        path = os.path.join(self._path(name), _LOCK)
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                raise UserError(f"get {name}: no such volume") from None
            try:
                fcntl.flock(fd, kind)
                if same_file(fd, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def mountpoint(self, name: str) -> str:
        """Return the directory of the files of the volume of that name, which need not be there."""
        return os.path.join(self._folder, name, DATA)
