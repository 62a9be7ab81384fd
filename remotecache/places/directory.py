"""A cache in an OCI layout directory of this machine [CCH-3]."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pybuild.cache.content.layoutdirectory import LayoutDirectory
from pybuild.engine.progress import InternalStep
from pybuild.exporter.check import check_directory
from pybuild.exporter.directories import make_output, open_output
from pybuild.image.archive import name_in_layout, write_layout_blob
from pybuild.image.manifest import MAX_MANIFEST_BYTES
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.remotecache.place import AnyContent, CacheSource, Expected, digest_of, is_passing
from pybuild.remotecache.places.directorysweep import sweep

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_GRACE_S = 3600.0
"""A blob of a directory that was wanted so lately may be about to be named."""
WAITS_S = (*(0.01,) * 50, *(0.1,) * 50, *(1.0,) * 60)
"""Between looks whether another process is done with it; naming takes moments, a sweep seconds."""


class DirectoryCache:
    """An OCI layout directory of this machine; the tag tells several caches apart."""

    title = "exporting cache to client directory"
    is_named_by_others = False
    has_manifests = True
    is_exact = True

    def __init__(
        self, engine: Engine, path: str, tag: str = "", digest: Digest | None = None
    ) -> None:
        self._store = engine.store
        self._clock = engine.clock
        self._damaged = engine.images.damaged
        self._path = path
        self._tag = tag
        self._digest = digest

    @property
    def place(self) -> Mapping[str, str]:
        return {"layout": self._path}

    @property
    def shared(self) -> CacheSource:
        return self

    async def root(self) -> tuple[Descriptor, bytes]:
        return await asyncio.to_thread(self._root)

    def _root(self) -> tuple[Descriptor, bytes]:
        layout = LayoutDirectory(self._path)
        manifest = layout.find(self._tag, self._digest)
        return manifest, layout.read(manifest, MAX_MANIFEST_BYTES)

    async def read(self, blob: Descriptor, limit: int) -> bytes:
        return await asyncio.to_thread(lambda: LayoutDirectory(self._path).read(blob, limit))

    async def check(self) -> None:
        await asyncio.to_thread(check_directory, self._path, "cache", is_layout=True)

    async def has(self, blob: Descriptor) -> bool:
        path = os.path.join(self._path, "blobs", blob.digest.algorithm, blob.digest.hex)
        if (self._path, blob.digest) in self._damaged:
            return False
        try:
            os.utime(path, follow_symlinks=False)  # whoever collects garbage sees that it is wanted
            return os.stat(path).st_size == blob.size
        except OSError:
            return False

    async def put(self, blob: Descriptor, step: InternalStep) -> None:
        place = (self._path, blob.digest)
        again = place in self._damaged
        path = self._store.blobs.path
        await asyncio.to_thread(
            write_layout_blob, self._path, blob, path, again=again, opened=make_output
        )
        self._damaged.discard(place)
        step.transfer(blob.digest, blob.size, blob.size)

    async def named(self) -> Descriptor | None:
        return await asyncio.to_thread(self._named)

    def _named(self) -> Descriptor | None:
        try:
            return LayoutDirectory(self._path).find(self._tag or "latest", None)
        except UserError as error:
            if is_passing(error):
                raise
            return None

    async def finish(self, made: Descriptor, data: bytes, expected: Expected) -> bool:
        return await asyncio.to_thread(self._finish, made, expected)

    def _finish(self, made: Descriptor, expected: Expected) -> bool:
        write_layout_blob(self._path, made, self._store.blobs.path, opened=make_output)
        with held(self._path):
            if not isinstance(expected, AnyContent) and digest_of(self._named()) != expected:
                return False
            name_in_layout(self._path, made, self._tag or "latest", opened=make_output)
        return True

    async def collect(self, max_age_s: float) -> int:
        return await asyncio.to_thread(self._collect)

    def _collect(self) -> int:
        with held(self._path):
            return sweep(self._path, self._clock.now() - _GRACE_S)


@contextmanager
def held(path: str) -> Generator[None]:
    """Keep others, other processes too, from changing a directory's index.

    Raises:
        EnvironmentFault: another process holds it for ever, as any reader of the directory can.
    """
    fd = open_output(path)
    try:
        for wait_s in (*WAITS_S, None):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if wait_s is None:
                    raise EnvironmentFault(
                        f"cache {path} is being changed by another process, and stays so",
                        hints=[f"see who has it locked: fuser {path}"],
                    ) from error
                time.sleep(wait_s)
        yield
    finally:
        os.close(fd)
