"""Uploads in progress: files of the store that are no blobs yet [end-4..6, end-13, end-14].

Each is one file, so a server that is killed, or another one on the same store, goes on where the
file ends. Who appends holds the file's lock. What the file's digest would be so far is remembered
by the process that wrote it; another one reads the file again, once, at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pybuild.cache.disk.atomic import discard, faults
from pybuild.cache.disk.locks import same_file
from pybuild.cache.repositories.repositories import Repository, listed
from pybuild.cache.store import Store
from pybuild.model.digest import Digest
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.shares import may_have

if TYPE_CHECKING:
    from hashlib import _Hash as Hash  # pyright: ignore[reportPrivateUsage]

_MOST_HASHES = 4096


class Spool:
    """All uploads in progress of one store. Its methods block, and are safe from threads."""

    def __init__(
        self,
        store: Store,
        most: int,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
        *,
        is_fair: bool = False,
    ) -> None:
        """Look at nothing yet.

        Args:
            most: uploads at once.
            is_fair: whoever begins many leaves some for the others, as `Shares` has it.
        """
        self._store = store
        self._most = most
        self._is_fair = is_fair
        self._begun: dict[str, str] = {}
        self._new_id = new_id
        self._folder = os.path.join(store.root, "registry", "uploads")
        self._hashes: dict[str, tuple[Hash, int]] = {}
        self._lock = threading.Lock()

    def begin(self, repository: Repository, algorithm: str = "sha256", caller: str = "") -> str:
        """Begin an upload of *caller* to *repository* and return its id.

        Raises:
            Refusal: there are too many.
            EnvironmentFault: the file cannot be made.
        """
        id = str(self._new_id())
        with self._lock:
            there = {name.partition(".")[0] for name in listed(self._folder)}
            # What another process or an earlier one began is nobody's.
            self._begun = {id: owner for id, owner in self._begun.items() if id in there}
            own = sum(owner == caller for owner in self._begun.values())
            if not may_have(own, len(there), self._most, self._is_fair):
                shown = (
                    "you have too many" if len(there) < self._most else f"there are {self._most}"
                )
                raise Refusal(
                    429,
                    RefusalCode.TOOMANYREQUESTS,
                    f"{shown} unfinished uploads",
                    {"Retry-After": "60"},
                )
            self._create(self._path(id, repository))
            self._begun[id] = caller
        self._remember(id, hashlib.new(algorithm), 0)
        return id

    def _create(self, path: str) -> None:
        with faults("cannot begin an upload", self._store.root):
            try:
                fd = self._store.disk.create(path)
            except FileNotFoundError:
                for folder in (os.path.dirname(self._folder), self._folder):
                    with suppress(FileExistsError):
                        self._store.disk.mkdir(folder)
                fd = self._store.disk.create(path)
            os.close(fd)

    def count(self) -> int:
        """Return how many uploads are in progress."""
        return len(listed(self._folder))

    @contextmanager
    def open(self, id: str, repository: Repository) -> Generator[OpenUpload]:
        """Have an upload for oneself.

        Raises:
            Refusal: there is no such upload to this repository, or somebody else appends to it.
        """
        path = self._path(id, repository)
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise _unknown() from None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refusal(
                    409,
                    RefusalCode.BLOB_UPLOAD_INVALID,
                    "another request is writing to this upload",
                ) from None
            if not same_file(fd, path):
                raise _unknown()
            with self._lock:
                hash, hashed = self._hashes.pop(id, (hashlib.sha256(), 0))
            upload = OpenUpload(self._store, path, fd, hash, hashed)
            try:
                yield upload
            finally:
                if not upload.ended:
                    self._remember(id, upload.hash, upload.hashed)
        finally:
            os.close(fd)

    def reached(self, id: str, repository: Repository) -> int:
        """Return how many bytes of an upload are there.

        Raises:
            Refusal: there is no such upload to this repository.
        """
        try:
            return os.stat(self._path(id, repository)).st_size
        except FileNotFoundError:
            raise _unknown() from None

    def cancel(self, id: str, repository: Repository) -> None:
        """Give an upload up.

        Raises:
            Refusal: there is no such upload, or somebody is writing to it.
        """
        with self.open(id, repository) as upload:
            upload.discard()

    def sweep(self, older_than_s: float) -> int:
        """Remove the uploads that nobody has continued for so long; return how many."""
        removed = 0
        now = self._store.clock.now()
        for name in listed(self._folder):
            path = os.path.join(self._folder, name)
            try:
                if abs(now - os.stat(path).st_mtime) < older_than_s:  # the clock was wrong once
                    continue
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Somebody may have gone on between our look and our lock.
                if abs(now - os.fstat(fd).st_mtime) >= older_than_s and same_file(fd, path):
                    os.unlink(path)
                    removed += 1
            except OSError:
                continue
            finally:
                os.close(fd)
            with self._lock:
                self._hashes.pop(name.partition(".")[0], None)
        return removed

    def _remember(self, id: str, hash: Hash, hashed: int) -> None:
        with self._lock:
            while len(self._hashes) >= _MOST_HASHES:
                del self._hashes[next(iter(self._hashes))]
            self._hashes[id] = (hash, hashed)

    def _path(self, id: str, repository: Repository) -> str:
        # An upload belongs to one repository: its id is no key to another.
        owner = hashlib.sha256(repository.name.encode()).hexdigest()[:32]
        return os.path.join(self._folder, f"{id}.{owner}")


class OpenUpload:
    """An upload that this request alone writes to.

    Attributes:
        offset: bytes there so far.
        ended: it is a blob now, or gone.
    """

    def __init__(self, store: Store, path: str, fd: int, hash: Hash, hashed: int) -> None:
        self._store = store
        self._path = path
        self._fd = fd
        self.hash = hash
        self.hashed = hashed
        self.offset = os.fstat(fd).st_size
        self.ended = False

    def write(self, data: bytes) -> None:
        """Append. Raises EnvironmentFault; what was written of *data* is undone."""
        before = self.offset
        try:
            with faults("cannot store an upload", self._store.root):
                self._store.disk.write(self._fd, data)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._fd, before)
            raise
        if self.hashed == before:
            self.hash.update(data)
            self.hashed += len(data)
        self.offset += len(data)

    def back_to(self, offset: int) -> None:
        """Forget what came after *offset*."""
        os.ftruncate(self._fd, offset)
        self.offset = offset
        if self.hashed > offset:
            self.hash, self.hashed = hashlib.new(self.hash.name), 0

    def discard(self) -> None:
        """Give the upload up."""
        discard(self._path)
        self.ended = True

    def commit(self, repository: Repository, digest: Digest) -> None:
        """Make the upload a blob of *repository*; it is gone if it is not that blob.

        Raises:
            Refusal: the bytes have another digest.
            EnvironmentFault: the blob cannot be stored.
        """
        try:
            if self.hash.name == digest.algorithm and self.hashed == self.offset:
                hexdigest = self.hash.hexdigest()
            else:
                hexdigest = self._read_again(digest.algorithm)
            if hexdigest != digest.hex:
                raise Refusal(
                    400,
                    RefusalCode.DIGEST_INVALID,
                    f"got {digest.algorithm}:{hexdigest} in {self.offset} bytes, not {digest}",
                )
            with self._store.leases.create() as lease:
                self._store.blobs.adopt(self._path, digest, self.offset, lease)
                repository.link_blob(digest)
            self.ended = True
        finally:
            if not self.ended:
                self.discard()

    def _read_again(self, algorithm: str) -> str:
        with faults("cannot read an upload", self._store.root), open(self._path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()


def _unknown() -> Refusal:
    return Refusal(
        404, RefusalCode.BLOB_UPLOAD_UNKNOWN, "there is no such upload in this repository"
    )
