"""Blobs: immutable content named by its digest, in the layout of OCI images [STO-1, IMG-22].

The files are verbatim what a registry serves. A blob gets its name only after its bytes were
checked; reading checks again, and what turns out damaged is moved out of the way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from pybuild.cache.disk.atomic import Disk, discard, fault, faults, write_file
from pybuild.cache.disk.plainfile import plain
from pybuild.cache.disk.scratch import Scratch
from pybuild.model.digest import Digest
from pybuild.model.errors import BlobMissing
from pybuild.model.lightlib import sha256_of, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from pybuild.cache.content.blobwriter import BlobWriter, Follower
    from pybuild.cache.content.leases import Keeper, Lease, Leases
    from pybuild.model.descriptor import Descriptor

DEFAULT_LIMIT = 64 << 20
# A blob that may not be on the disk has the second: whoever relies on it, in another process or
# after its maker was killed, sees that it is to be flushed.
_MODE, _UNFLUSHED_MODE = 0o644, 0o444
_LENGTHS = {"sha256": 64, "sha512": 128}


class Blobs:
    """The blobs of one store. Safe to use from threads and processes at once."""

    def __init__(self, root: str, disk: Disk, scratch: Scratch, leases: Leases, own: Lease) -> None:
        self._root = root
        self._folder = os.path.join(root, "blobs")
        self._disk = disk
        self._scratch = scratch
        self._leases = leases
        self._own = own
        self._follower: Follower | None = None
        self._unflushed: set[Digest] = set()  # twins have the same

    def followed_by(self, follower: Follower) -> Self:
        """Return the same blobs; *follower* gets all that is written to them, piece by piece."""
        twin = self._twin()
        twin._follower = follower
        return twin

    def leased_by(self, lease: Lease) -> Self:
        """Return the same blobs; what is written and nobody else leases is *lease*'s."""
        twin = self._twin()
        twin._own = lease
        return twin

    def _twin(self) -> Self:
        from copy import copy

        return copy(self)

    def path(self, digest: str) -> str:
        """Return the path of the blob, whether it is there or not.

        Raises:
            ValueError: *digest* is not a digest.
        """
        algorithm, _, hexdigits = Digest.parse(digest).partition(":")
        return os.path.join(self._folder, algorithm, hexdigits)

    def has(self, digest: str) -> bool:
        """Return whether the blob is there. To rely on it, lease it first."""
        return os.path.isfile(self.path(digest))

    def holds(self, descriptor: Descriptor) -> bool:
        """Return whether the blob is there in its full size; lost power may have cut it off."""
        try:
            status = os.stat(self.path(descriptor.digest))
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size

    def size(self, digest: str) -> int:
        """Return the size in bytes.

        Raises:
            BlobMissing: it is not there.
        """
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def time(self, digest: str) -> float:
        """Return when the blob was stored or last touched; 0 where it is not there."""
        try:
            return os.stat(self.path(digest)).st_mtime
        except OSError:
            return 0.0

    def touch(self, digest: str) -> None:
        """Note that the blob is used now, as far as the file system lets us."""
        with suppress(OSError):
            os.utime(self.path(digest))

    def put(self, data: bytes, lease: Keeper | None = None) -> Digest:
        """Store *data* and return its digest; leased by *lease*, else until the store closes.

        Raises:
            EnvironmentFault: it cannot be written; nothing is left of it.
        """
        digest = Digest.of(data)
        (lease or self._own).add("blob", digest)
        path = self.path(digest)
        with faults(f"cannot store blob {digest}", self._root):
            try:
                with open(path, "rb", opener=plain) as file:
                    if file.read(len(data) + 1) == data:  # what is damaged is written anew
                        return digest
            except FileNotFoundError:
                pass
            write_file(self._disk, self._scratch.name(), path, data, self.new_mode, self._is_each)
        if not self._is_each:
            self._unflushed.add(digest)
        return digest

    @property
    def _is_each(self) -> bool:
        return self._disk.durability == "each"

    @property
    def new_mode(self) -> int:
        """The permissions of what is going to be moved in."""
        return _MODE if self._is_each else _UNFLUSHED_MODE

    def read(self, digest: str, limit: int = DEFAULT_LIMIT) -> bytes:
        """Return the blob's bytes, checked.

        Args:
            limit: the most bytes to read; what is larger is no manifest or config.

        Raises:
            BlobMissing: not there, or damaged (then it is moved away).
            EnvironmentFault: it is larger than *limit*, or cannot be read.
        """
        digest = Digest.parse(digest)
        path = self.path(digest)
        try:
            with open(path, "rb", opener=plain) as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        except OSError as error:
            raise fault(error, f"cannot read blob {digest}", self._root) from error
        if len(data) > limit:
            from pybuild.model.errors import EnvironmentFault

            raise EnvironmentFault(f"blob {digest}: larger than the limit of {limit} bytes")
        if _hex_of(digest.algorithm, data) != digest.hex:
            self._set_aside(path)
            raise BlobMissing(digest, "damaged, removed from the store")
        return data

    def verify(self, digest: str) -> bool:
        """Read the whole blob; tell whether it is sound, and move it away if it is damaged.

        Raises:
            BlobMissing: it is not there. EnvironmentFault: it cannot be read.
        """
        digest = Digest.parse(digest)
        path = self.path(digest)
        import hashlib

        try:
            with open(path, "rb", opener=plain) as file:
                actual = hashlib.file_digest(file, digest.algorithm).hexdigest()
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        except OSError as error:
            raise fault(error, f"cannot read blob {digest}", self._root) from error
        if actual == digest.hex:
            return True
        self._set_aside(path)
        return False

    def _set_aside(self, path: str) -> None:
        try:
            self._scratch.trash(path)
        except OSError:
            pass  # a read-only store: the caller learns that the blob is damaged all the same

    def proof(self, store: str, repository: str, digest: str) -> str | None:
        """Return the proof for a server on this store that we can read the blob ourselves.

        None when *store*, as the server names it, is another one; see `storekey`. A server keeps
        what it links, so the blob is flushed.

        Raises:
            EnvironmentFault: it cannot be.
        """
        from pybuild.cache.content.storekey import identity, proof, read_key

        key = read_key(self._root)
        if key is None or identity(key) != store:
            return None
        self.flush()
        return proof(key, repository, digest)

    def writer(
        self,
        expected: Digest | None = None,
        size: int | None = None,
        *,
        lease: Lease | None = None,
    ) -> BlobWriter:
        """Return a context manager that takes the bytes of one blob; see `BlobWriter`."""
        from pybuild.cache.content.blobwriter import BlobWriter  # most builds bring no blob

        return BlobWriter(
            self._disk,
            self._scratch,
            self._root,
            expected,
            size,
            lease or self._own,
            self._follower,
            mode=self.new_mode,
            move_in=self.move_in,
        )

    def adopt(self, path: str, digest: Digest, size: int, lease: Lease | None = None) -> None:
        """Make the file at *path* the blob. Its maker has computed *digest* over all of it.

        *path* is one of `Store.scratch`'s and complete; it is gone afterwards, also on failure.

        Raises:
            EnvironmentFault: its size is not *size*, or it cannot be moved in.
        """
        try:
            (lease or self._own).add("blob", digest)
            with faults(f"cannot store blob {digest}", self._root):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    actual = os.fstat(fd).st_size
                    if actual != size:
                        from pybuild.model.errors import EnvironmentFault

                        raise EnvironmentFault(f"blob {digest}: {actual} of {size} bytes")
                    os.fchmod(fd, self.new_mode)
                    if self._is_each:
                        self._disk.flush(fd)
                finally:
                    os.close(fd)
                self.move_in(path, digest)
        except BaseException:
            discard(path)
            raise

    def move_in(self, path: str, digest: Digest) -> None:
        """Give a checked file its name; replaces one that may be damaged. Raises OSError."""
        target = self.path(digest)
        folder = os.path.dirname(target)
        with self._scratch.moving:
            try:
                self._disk.rename(path, target)
            except FileNotFoundError:
                if os.path.isdir(folder):
                    raise
                self._disk.mkdir(folder)  # sha512's folder is made at need
                self._disk.rename(path, target)
        if self._is_each:
            self._disk.flush_dir(folder)
        else:
            self._unflushed.add(digest)

    def flush(self, needed: Iterable[str] = ()) -> None:
        """Flush what was not yet: something is about to rely on it for good.

        Args:
            needed: these too, whoever wrote them; what is not there is passed over.

        Raises:
            EnvironmentFault: it cannot be.
        """
        waiting = self._unflushed | {Digest.parse(one) for one in needed if self._is_marked(one)}
        folders: set[str] = set()
        with faults("cannot flush what an image is made of", self._root):
            for digest in sorted(waiting):
                path = self.path(digest)
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                except FileNotFoundError:
                    continue  # deleted since
                try:
                    self._disk.flush(fd)
                finally:
                    os.close(fd)
                folders.add(os.path.dirname(path))
            for folder in sorted(folders):
                self._disk.flush_dir(folder)
        for digest in waiting:
            with suppress(OSError):  # of another owner: the next one flushes it again
                os.chmod(self.path(digest), _MODE)
        self._unflushed -= waiting

    def _is_marked(self, digest: str) -> bool:
        try:
            return stat.S_IMODE(os.lstat(self.path(digest)).st_mode) == _UNFLUSHED_MODE
        except OSError:
            return False

    @property
    def has_unflushed(self) -> bool:
        """Return whether some blob of ours may not be on the disk."""
        return bool(self._unflushed)

    def delete(self, digest: str) -> int:
        """Remove the blob, if it is there, whoever uses it; the careful ways are `prune` and `collect`.

        Returns the bytes that the disk got back.

        Raises:
            EnvironmentFault: it cannot be removed.
        """
        with faults(f"cannot delete blob {digest}", self._root):
            path = self.path(digest)
            try:
                status = os.stat(path, follow_symlinks=False)
                self._disk.unlink(path)
            except FileNotFoundError:
                return 0
        return status.st_blocks * 512 if status.st_nlink == 1 else 0

    def list(self) -> Iterator[tuple[Digest, os.stat_result]]:
        """Yield each blob and its file's status; files of others are passed over."""
        for algorithm, length in _LENGTHS.items():
            try:
                entries = os.scandir(os.path.join(self._folder, algorithm))
            except FileNotFoundError:
                continue
            with entries:
                for entry in entries:
                    if len(entry.name) != length or not entry.is_file(follow_symlinks=False):
                        continue
                    try:
                        yield Digest.parse(f"{algorithm}:{entry.name}"), entry.stat()
                    except (ValueError, FileNotFoundError):
                        continue


def _hex_of(algorithm: str, data: bytes) -> str:
    if algorithm == "sha256":
        return sha256_of(data)
    import hashlib

    return hashlib.new(algorithm, data).hexdigest()
