"""The protocol of a place that holds a build's cache: to be read from, and written to [CCH]."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError


class AnyContent(Enum):
    """Stands for any content."""

    ANY = "any"


ANY_CONTENT = AnyContent.ANY
# Of a file that is not there, or is none; any other error says nothing about what it holds.
_BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
Expected = Digest | AnyContent | None
"""The digest that is named at a place before a write; None: nothing is."""


class CacheSource(Protocol):
    """A source of a cache; all bytes that it gives have the digests that they are asked by."""

    @property
    def place(self) -> Mapping[str, str]:
        """The place, in the words of the records of its layers."""
        ...

    async def root(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that the cache hangs from.

        Raises:
            UserError: there is none. EnvironmentFault: it cannot be had, or is broken.
        """
        ...

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        """Return a manifest or another small blob."""
        ...


class CacheTarget(Protocol):
    """A target for a cache."""

    @property
    def title(self) -> str:
        """The step's name for people."""
        ...

    @property
    def is_named_by_others(self) -> bool:
        """Whether somebody else names the cache, and needs its manifest for that."""
        ...

    @property
    def has_manifests(self) -> bool:
        """Whether a manifest is named there; otherwise it is the cache's config itself."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether `finish` can tell for sure that nobody wrote in between."""
        ...

    @property
    def shared(self) -> CacheSource | None:
        """The same place to read from; None where nobody else can write to it meanwhile."""
        ...

    async def check(self) -> None:
        """Check that it can be written, as far as that costs next to nothing.

        Raises:
            PybuildError: it cannot.
        """
        ...

    async def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is there, and will be for as long as a build takes."""
        ...

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        """Take a blob of the store."""
        ...

    async def named(self) -> Descriptor | None:
        """Return the descriptor that is named there now, as `CacheSource.read` takes it."""
        ...

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        """Let the cache be found, now that all its blobs are there.

        Args:
            expected: the digest that is named there now; None: nothing is.

        Returns False, with nothing lost, if something else was.
        """
        ...

    async def collect(self, max_age_s: float) -> int:
        """Delete unneeded objects, where that is ours to do; return their number.

        Args:
            max_age_s: a name that nobody has written for so long is not needed.
        """
        ...


def is_passing(error: PybuildError) -> bool:
    """Return whether the fault may pass: a cache may be there that cannot be read at present."""
    from pybuild.registry.client.faults import ContentFault

    if isinstance(error, ContentFault):
        return False
    status = getattr(error, "status", None)
    if status is None:
        cause = error.__cause__
        return isinstance(cause, OSError) and cause.errno not in _BROKEN
    return status not in range(400, 500) or status == 429


def digest_of(named: Descriptor | None) -> Digest | None:
    return None if named is None else named.digest
