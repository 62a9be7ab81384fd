"""A place for caches in memory, to be read from and written to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pybuild.engine.progress import InternalStep
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, UserError
from pybuild.remotecache.place import AnyContent, Expected


@dataclass
class MemoryPlace:
    """A `CacheSource` and a `CacheTarget`.

    Attributes:
        blobs: by digest; *name* is the one that the cache hangs from.
        rivals: written by somebody else before our next writes, one for each.
        faults: raised by the next checks, reads and writes of these names.
        written: the descriptors that were named, in order.
    """

    blobs: dict[Digest, bytes] = field(default_factory=dict[Digest, bytes])
    name: Descriptor | None = None
    rivals: list[Descriptor] = field(default_factory=list[Descriptor])
    faults: dict[str, PybuildError] = field(default_factory=dict[str, PybuildError])
    written: list[Descriptor] = field(default_factory=list[Descriptor])
    expected: list[Expected] = field(default_factory=list[Expected])
    reads: int = 0
    title: str = "exporting to memory"
    is_named_by_others: bool = False
    has_manifests: bool = True
    is_exact: bool = True
    is_shared: bool = True

    @property
    def place(self) -> Mapping[str, str]:
        return {"reference": "docker.io/library/memory:1"}

    @property
    def shared(self) -> MemoryPlace | None:
        return self if self.is_shared else None

    def add(self, data: bytes, media_type: str) -> Descriptor:
        digest = Digest.of(data)
        self.blobs[digest] = data
        return Descriptor(media_type, digest, len(data))

    def _fail(self, what: str) -> None:
        if what in self.faults:
            raise self.faults.pop(what)

    async def root(self) -> tuple[Descriptor, bytes]:
        self._fail("root")
        if self.name is None:
            raise UserError("nothing is there")
        return self.name, await self.read(self.name, 1 << 20)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        self._fail("read")
        self.reads += 1
        data = self.blobs[blob.digest]
        assert len(data) <= limit
        return data

    async def check(self) -> None:
        self._fail("check")

    async def has(self, blob: Descriptor) -> bool:
        return blob.digest in self.blobs

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        self._fail("put")
        self.blobs[blob.digest] = b""

    async def named(self) -> Descriptor | None:
        return self.name

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        self._fail("finish")
        self.expected.append(expected)
        if self.rivals:
            self.name = self.rivals.pop(0)
            if not isinstance(expected, AnyContent):
                return False
        self.blobs[made.digest] = data
        self.name = made
        self.written.append(made)
        return True

    async def collect(self, max_age_s: float) -> int:
        self._fail("collect")
        return 3
