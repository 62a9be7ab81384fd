"""Taking in a blob that arrives piece by piece."""

from __future__ import annotations

import hashlib
import os

from pybuild.cache.disk.atomic import Disk, discard, faults
from pybuild.cache.disk.scratch import Scratch
from pybuild.model.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, Self

    from pybuild.cache.content.leases import Keeper

    class Follower(Protocol):
        """Reads a blob while it is written; told of it by the thread that writes."""

        def begun(self, fd: int) -> None:
            """Start a blob; its bytes can be read from *fd*, which is the follower's to close."""
            ...

        def grown(self) -> None:
            """There is more."""
            ...

        def ended(self) -> None:
            """Nothing more comes, whether it is all or not."""
            ...


class BlobWriter:
    """Writes one blob: ``with blobs.writer(digest, size) as w: w.write(…); w.commit()``.

    Leaving the block without `commit` discards what came.

    Args:
        lease: keeps the blob from the collector; *mode*: of its file.
        move_in: gives a checked file its name. Raises OSError.

    Attributes:
        offset: bytes there so far.
    """

    def __init__(
        self,
        disk: Disk,
        scratch: Scratch,
        root: str,
        expected: Digest | None,
        size: int | None,
        lease: Keeper,
        follower: Follower | None,
        *,
        mode: int,
        move_in: Callable[[str, Digest], None],
    ) -> None:
        self._mode = mode
        self._move_in = move_in
        self._disk = disk
        self._scratch = scratch
        self._root = root
        self._expected = None if expected is None else Digest.parse(expected)
        self._size = size
        self._lease = lease
        self._doing = f"cannot store blob {expected}" if expected else "cannot store a blob"
        self._hash = hashlib.new(self._expected.algorithm if self._expected else "sha256")
        self._follower = follower
        self._fd = -1
        self._path = ""
        self.offset = 0

    def __enter__(self) -> Self:
        with faults(self._doing, self._root):
            if self._expected is not None:
                self._lease.add("blob", self._expected)
            self._path = self._scratch.name()
            self._fd = self._disk.create(self._path, 0o644)
        if self._follower is not None:
            try:
                self._follower.begun(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                self._follower = None  # it looks when everything is there
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes; hashing and writing let other threads run.

        Raises:
            EnvironmentFault: more bytes than announced, or they cannot be written.
        """
        if self._size is not None and self.offset + len(data) > self._size:
            raise self._mismatch(f"got more than {self._size} bytes")
        with faults(self._doing, self._root):
            self._disk.write(self._fd, data)
        if self._follower is not None:
            self._follower.grown()
        self._hash.update(data)
        self.offset += len(data)

    def commit(self) -> tuple[Digest, int]:
        """Check the bytes and make them a blob; return its digest and size.

        Raises:
            EnvironmentFault: digest or size are not the announced ones.
        """
        digest = Digest(f"{self._hash.name}:{self._hash.hexdigest()}")
        of = self.offset if self._size is None else self._size
        if self.offset != of or self._expected not in (None, digest):
            raise self._mismatch(f"got {digest} after {self.offset} of {of} bytes")
        if self._expected is None:
            self._lease.add("blob", digest)
        with faults(self._doing, self._root):
            os.fchmod(self._fd, self._mode)
            if self._disk.durability == "each":
                self._disk.flush(self._fd)
            self._move_in(self._path, digest)
        self._path = ""
        return digest, self.offset

    def _mismatch(self, what: str) -> Exception:
        from pybuild.model.errors import EnvironmentFault

        return EnvironmentFault(f"blob {self._expected}: {what}" if self._expected else what)

    def __exit__(self, *exception: object) -> None:
        if self._path:
            discard(self._path)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._follower is not None:
            self._follower.ended()
