"""The protocol of a place that keeps blobs; the store of `cache` offers it.

Calls block (they touch a disk), so the client makes them in threads, one at a time per writer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from os import PathLike
from typing import Protocol, runtime_checkable

from pybuild.model.digest import Digest

Progress = Callable[[str, int, int], None]
"""Told (id, bytes so far, bytes in all); the id is the blob's digest; called on the event loop."""


class BlobWriter(Protocol):
    """One blob on its way in; leaving the context without a commit forgets it."""

    def write(self, data: bytes, /) -> object: ...

    def commit(self) -> object:
        """Make the blob visible under its digest.

        Raises:
            EnvironmentFault: the bytes do not have the expected digest and size.
        """
        ...


class BlobSink(Protocol):
    """The destination of pulled blobs."""

    def has(self, digest: Digest, /) -> bool: ...

    def writer(
        self, expected: Digest | None, size: int | None
    ) -> AbstractContextManager[BlobWriter]:
        """Begin a blob that must turn out as *expected*, of *size* bytes."""
        ...


class BlobSource(Protocol):
    """The source of pushed blobs."""

    def has(self, digest: Digest, /) -> bool: ...

    def path(self, digest: Digest, /) -> str | PathLike[str]:
        """The file that holds the blob."""
        ...


@runtime_checkable
class Provable(Protocol):
    """A source that can show a server on the very same store that it may have a blob."""

    def proof(self, store: str, repository: str, digest: Digest, /) -> str | None:
        """Return the proof for *repository*; None when *store* is another one."""
        ...
