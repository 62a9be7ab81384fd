"""A cache in a directory: what is not there, and what just cannot be read [CCH-3, CCH-10]."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from pybuild.image.archive import name_in_layout
from pybuild.model.descriptor import OCI_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.remotecache.place import is_passing
from pybuild.remotecache.places import directory
from pybuild.remotecache.places.directory import DirectoryCache


@contextmanager
def no_more_files() -> Generator[None]:
    """Let every open fail, as on a machine that is short of something."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_cannot_be_read_at_present_is_neither_missing_nor_broken(tmp_path: Path) -> None:
    """Else a builder writes its own over what others have named, and theirs is lost."""
    place = tmp_path / "cache"
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    named = Descriptor(OCI_INDEX, Digest.of(data), len(data))
    blob = place / "blobs/sha256" / named.digest.hex

    async def look() -> None:
        async with Engine(Settings(root=str(tmp_path / "store"))) as engine:
            cache = DirectoryCache(engine, str(place))
            assert await cache.named() is None
            blob.parent.mkdir(parents=True)
            blob.write_bytes(data)
            name_in_layout(str(place), named, "latest")
            found = await cache.named()
            assert found is not None
            assert found.digest == named.digest
            assert not is_passing(EnvironmentFault("broken"))
            with no_more_files(), pytest.raises(PybuildError) as caught:
                await cache.named()
            assert is_passing(caught.value)
            with no_more_files(), pytest.raises(PybuildError) as caught:
                await cache.read(found, 1 << 20)
            assert is_passing(caught.value)
            blob.unlink()
            with pytest.raises(PybuildError) as caught:
                await cache.read(found, 1 << 20)
            assert not is_passing(caught.value)

    asyncio.run(look())


def test_a_directory_that_somebody_keeps_locked_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user who may read the directory can lock it, and would hold up all builds."""
    monkeypatch.setattr(directory, "WAITS_S", (0.0,))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        with (
            pytest.raises(EnvironmentFault, match="by another process") as caught,
            directory.held(str(tmp_path)),
        ):
            pass
        assert caught.value.hints
        fcntl.flock(fd, fcntl.LOCK_UN)
        with directory.held(str(tmp_path)):
            pass
    finally:
        os.close(fd)
