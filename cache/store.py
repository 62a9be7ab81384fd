"""The store: one directory that is an OCI image layout plus snapshots and records.

    <root>/
      oci-layout, index.json   the local images
      store.json               the version of all that OCI does not define
      registry/                what `pybuild registry serve` offers of it, made at need
      ballast                  space to give up when the disk is full, so that prune can work
      blobs/, snapshots/, records/, listings/, mounts/, contexts/, logs/, memo/, leases/, locks/, tmp/

Opening scans nothing. Several processes may have one store open. What a thing holds together is
said in its module: `blobs`, `deltas`, `records`, `images`, `leases`, `scratch`.
"""

from __future__ import annotations

import os
from _thread import RLock  # the C part; threading.py takes longer than opening a store

from pybuild.cache.disk.atomic import Disk, discard, fault, make_parents, write_file
from pybuild.cache.disk.custody import DIRECTORIES, KNOWN, take
from pybuild.cache.disk.plainfile import plain
from pybuild.model import lightjson
from pybuild.model.lightlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from functools import cached_property as part
    from typing import NoReturn, Self

    from pybuild.cache.content.blobs import Blobs
    from pybuild.cache.content.deltas import Deltas
    from pybuild.cache.content.images import Images
    from pybuild.cache.content.leases import Lease, Leases
    from pybuild.cache.disk.atomic import Warn
    from pybuild.cache.disk.extent import Extent
    from pybuild.cache.disk.scratch import Remover, Scratch
    from pybuild.cache.records.claims import KeyClaims
    from pybuild.cache.records.database import Records
    from pybuild.cache.records.listings import Listings
    from pybuild.cache.repositories.repositories import Repositories
    from pybuild.cache.space.budget import Budget
    from pybuild.model.clock import Clock

    Measurer = Callable[[str], Extent]
else:

    class part:
        """A part of a store, made once, by whichever thread first uses it: most commands need few of them."""

        def __init__(self, make):
            self._make = make
            self.__doc__ = make.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, store, owner=None):
            if store is None:
                return self
            with store.making:
                parts = store.__dict__
                if self._name not in parts:
                    parts[self._name] = self._make(store)
                return parts[self._name]


VERSION = 1
BALLAST = "ballast"
_BALLAST_BYTES = 4 << 20
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}\n'


class Store:
    """An open store; made by `open`.

    Attributes:
        root, mounts_dir, memo_dir: absolute paths.
        contexts_dir: directories received from clients; made by who first keeps one.
        names_dir: holds what names of images mean to those who see the store so; see `view`.
        lease: of the things that this object wrote and nobody else leased, until `close`.
        budget: keeps the store below its ceiling, where it has one; see `keep_below`.
    """

    budget: Budget | None = None

    def __init__(
        self,
        root: str,
        clock: Clock,
        *,
        disk: Disk,
        warn: Warn,
        remover: Remover | None,
        measurer: Measurer | None,
        brief: bool = False,
    ) -> None:
        self.root = root
        self.clock = clock
        self.warn = warn
        self.names_dir = root
        self.mounts_dir = os.path.join(root, "mounts")
        self.contexts_dir = os.path.join(root, "contexts")
        self.memo_dir = os.path.join(root, "memo")
        self.disk = disk
        self.making = RLock()
        self._remover = remover
        self._brief = brief
        self._measurer = measurer
        self._reads = self._promises_nothing = False

    @part
    def tmp(self) -> Scratch:
        """``tmp/``, open: what is being written, and what waits for deletion."""
        from pybuild.cache.disk.scratch import Scratch

        tmp = Scratch(self.root, self.disk, self._remover, brief=self._brief)
        if not self._promises_nothing:
            tmp.hold()
        return tmp

    @part
    def leases(self) -> Leases:
        """The promises of all processes."""
        from pybuild.cache.content.leases import Leases

        leases = Leases(self.root, self.disk)
        leases.read_only = self._promises_nothing
        return leases

    @part
    def lease(self) -> Lease:
        """Ours."""
        return self.leases.create()

    @part
    def blobs(self) -> Blobs:
        """The blobs, by digest."""
        from pybuild.cache.content.blobs import Blobs

        return Blobs(self.root, self.disk, self.tmp, self.leases, self.lease)

    @part
    def deltas(self) -> Deltas:
        """The file trees of layers and steps."""
        from pybuild.cache.content.deltas import Deltas

        return Deltas(self.root, self.disk, self.tmp, self.lease, self.clock, self.warn)

    @part
    def records(self) -> Records:
        """The records of what is known of steps and images."""
        from pybuild.cache.records.database import Records

        records = Records(self.root, self.disk, self.warn)
        records.read_only = self._reads
        return records

    @part
    def claims(self) -> KeyClaims:
        """The claims on results that are being made, by this process and others."""
        from pybuild.cache.records.claims import KeyClaims

        return KeyClaims(self.root)

    @part
    def listings(self) -> Listings:
        """The lists of files of contents."""
        from pybuild.cache.records.listings import Listings

        return Listings(self.root, self.disk, self.tmp, self.warn)

    @part
    def images(self) -> Images:
        """The names of images."""
        from pybuild.cache.content.images import Images

        return Images(self.root, self.disk, self.tmp, self.blobs, self.leases)

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str],
        clock: Clock,
        *,
        disk: Disk | None = None,
        warn: Warn = lambda message: None,
        remover: Remover | None = None,
        measurer: Measurer | None = None,
        to_read: bool = False,
        brief: bool = False,
    ) -> Self:
        """Open the store at *root*, making it if there is none.

        Args:
            to_read: for who only looks: a full disk, a read-only file system or a store of
                somebody else, readable, will do.
            disk: writes files; tests make it fail.
            warn: called with a line about each fault that was mended; may be called from any thread.
            remover: deletes a directory tree that needs privileges of a worker; called from a
                background thread; what it cannot delete is tried again by the next process.
            measurer: measures a tree that needs those privileges.
            brief: for a command that is over in milliseconds: it starts no thread.

        Raises:
            EnvironmentFault: not a store, of a future version, or not writable.
        """
        path: str = os.path.abspath(root)
        ours = disk or Disk()
        store = cls(
            path, clock, disk=ours, warn=warn, remover=remover, measurer=measurer, brief=brief
        )
        try:
            store._prepare(to_read)
        except OSError as error:
            store.close()
            raise fault(error, f"cannot open the store {path}", path) from error
        except BaseException:
            store.close()
            raise
        return store

    @part
    def repositories(self) -> Repositories:
        """The repositories that the registry serves; most stores have none."""
        from pybuild.cache.repositories.repositories import Repositories

        return Repositories(self.root, self.disk, self.tmp, self.blobs, self.leases, self.clock)

    def _prepare(self, to_read: bool) -> None:
        self._reads = to_read
        refusal = take(self.root, self.warn, to_read=to_read)
        if refusal is not None:
            self._refuse(refusal[0], *refusal[1])
        version = self._version()
        if version is None:
            self._create()
        elif version > VERSION:
            self._refuse(
                f"is of version {version}, made by a newer pybuild; this one knows {VERSION}",
                "use that pybuild, or another directory with PYBUILD_ROOT",
            )
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            if to_read and version is not None and os.access(self.root, os.R_OK | os.X_OK):
                self._promises_nothing = True
                return
            if os.statvfs(self.root).f_flag & os.ST_RDONLY:
                self._refuse(
                    "is on a read-only file system", "put the store elsewhere with PYBUILD_ROOT"
                )
            owner = os.stat(self.root).st_uid
            self._refuse(
                f"is not writable for uid {os.geteuid()}; it belongs to uid {owner}",
                "put the store elsewhere with PYBUILD_ROOT",
            )
        # What copies stores from machine to machine may leave empty directories out.
        self._make_directories()

    def _version(self) -> int | None:
        """Return the version of the store that is there; None if there is none yet."""
        try:
            with open(os.path.join(self.root, "store.json"), "rb", opener=plain) as file:
                value = lightjson.loads(file.read())
            version = value["version"]
            if not isinstance(version, int) or isinstance(version, bool) or version < 1:
                raise ValueError
            return version
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            self._refuse("is not a directory")
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(
                "has a store.json that is not one of ours", "restore it, or remove the store"
            )

    def _create(self) -> None:
        """Make the store, or finish what a killed process began: the version comes last."""
        make_parents(self.root)
        try:
            self.disk.mkdir(self.root, 0o700)
        except FileExistsError:
            strangers = sorted(set(os.listdir(self.root)) - KNOWN)
            if strangers:
                self._refuse(
                    f'is not a pybuild store: it holds "{strangers[0]}"',
                    "name an empty directory or one that does not exist",
                )
        # Between our look and now somebody else may have made it, or one above it.
        refusal = take(self.root, self.warn)
        if refusal is not None:
            self._refuse(refusal[0], *refusal[1])
        self._make_directories()
        self.hold_ballast()
        self._file("oci-layout", _LAYOUT)
        self.images.create()
        self._file("store.json", lightjson.dumps({"version": VERSION}).encode() + b"\n")

    def _make_directories(self) -> None:
        for name in (*DIRECTORIES, "blobs/sha256"):
            path = os.path.join(self.root, name)
            if not os.path.isdir(path):
                with suppress(FileExistsError):
                    self.disk.mkdir(path)

    def _file(self, name: str, data: bytes) -> None:
        path = os.path.join(self.root, name)
        write_file(self.disk, self.tmp.name(), path, data, 0o644, flush=True)

    def _refuse(self, what: str, *hints: str) -> NoReturn:
        from pybuild.model.errors import EnvironmentFault

        raise EnvironmentFault(f"store {self.root} {what}", hints=hints)

    def hold_ballast(self) -> None:
        """Keep some space that `drop_ballast` can give back; best effort.

        Freeing needs space itself: SQLite writes before it deletes, even to open.
        """
        try:
            fd = self.disk.create(os.path.join(self.root, BALLAST))
            try:
                os.posix_fallocate(fd, 0, _BALLAST_BYTES)
            finally:
                os.close(fd)
        except OSError:
            pass  # it is there, or there is no space to keep

    def drop_ballast(self) -> None:
        """Give back the space of `hold_ballast`."""
        discard(os.path.join(self.root, BALLAST))

    def scratch(self, label: str = "") -> str:
        """Return an unused path in ``tmp/``, for a file to `Blobs.adopt` or a directory.

        It is ours while this process lives; what is left of it then is deleted.
        """
        return self.tmp.name(label)

    def discard(self, path: str) -> None:
        """Make a file or tree of the store vanish now; its space is freed in the background."""
        try:
            self.tmp.trash(path)
        except OSError as error:
            raise fault(error, f"cannot remove {path}", self.root) from error

    def forget_memos(self) -> None:
        """Drop the memos of finished builds: steps give something new, and memos do not say which."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self.memo_dir):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.memo_dir, name))

    def measure(self, path: str) -> Extent:
        """Return the space of a tree of the store on the disk; not on the thread of an event loop."""
        from pybuild.cache.disk.extent import extent

        return extent(path) if self._measurer is None else self._measurer(path)

    @contextmanager
    def view(self, place: str = "") -> Generator[Self]:
        """Give the same store with a lease of its own, for one of many jobs of a long process.

        Args:
            place: of the owner, below the root, whose names are seen; empty: those of the store.
        """
        from copy import copy

        from pybuild.cache.content.images import Images

        for name in ("claims", "records", "listings", "deltas", "blobs"):
            getattr(self, name)  # made: the twin has the same
        twin = copy(self)
        twin.names_dir = os.path.join(self.root, place)
        twin.lease = self.leases.create()
        twin.blobs = self.blobs.leased_by(twin.lease)
        twin.deltas = self.deltas.leased_by(twin.lease)
        twin.images = Images(self.root, self.disk, self.tmp, twin.blobs, self.leases, place)
        try:
            yield twin
        finally:
            twin.lease.close()

    def flush_after_us(self, hand_over: Callable[[str], object] | None = None) -> None:
        """Let nobody wait for the disk but who names an image; *hand_over* as `Deltas` has it."""
        self.disk.durability = "named"
        self.records.close_after_us = True
        self.deltas.flush_after_us(hand_over)

    def close(self) -> None:
        """Flush, stop the background threads and end the store's own lease."""
        if self.budget is not None:
            self.budget.close()
        parts = self.__dict__
        is_unflushed = "blobs" in parts and self.blobs.has_unflushed
        if is_unflushed or "deltas" in parts:
            self.deltas.close(others=is_unflushed)
        for name in ("claims", "records", "listings", "lease", "tmp"):
            if name in parts:
                parts[name].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
