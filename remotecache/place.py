"""What a place that holds a build's cache has to offer: to be read from, and written to [CCH]."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from enum import Enum
from typing import Protocol

from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError


class Anything(Enum):
    """Stands for whatever is there."""

    ANYTHING = "anything"


ANYTHING = Anything.ANYTHING
# Of a file that is not there, or is none; any other error says nothing about what it holds.
_BROKEN = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
Over = Digest | Anything | None


class CacheSource(Protocol):
    """Where a cache is read; all bytes that it gives are what their digests say."""

    @property
    def place(self) -> Mapping[str, str]:
        """What the record of a layer that comes from here says of it."""
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
    """Where a cache is written."""

    @property
    def title(self) -> str:
        """How people know the step."""
        ...

    @property
    def is_named_elsewhere(self) -> bool:
        """Whether somebody else names what is written, and has to be told its manifest."""
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
        """Look whether it can be written, as far as that costs next to nothing.

        Raises:
            PybuildError: it cannot.
        """
        ...

    async def has(self, blob: Descriptor) -> bool:
        """Tell whether a blob is there, and will be for as long as a build takes."""
        ...

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        """Take a blob of the store."""
        ...

    async def named(self) -> Descriptor | None:
        """Return what is named there now, as `CacheSource.read` takes it."""
        ...

    async def finish(self, made: Descriptor, data: bytes, over: Over) -> bool:
        """Let the cache be found, now that all its blobs are there.

        Args:
            over: the digest of what is named there now, or nothing.

        Returns whether it was so; nothing is lost if not.
        """
        ...

    async def collect(self, max_age_s: float) -> int:
        """Delete what nobody needs, where that is ours to do; return how many objects went.

        Args:
            max_age_s: a name that nobody has written for so long is not needed.
        """
        ...


def is_passing(error: PybuildError) -> bool:
    """Tell whether something may be there that just cannot be read at present."""
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
