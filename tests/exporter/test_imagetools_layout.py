"""An image in an OCI layout directory, filled from a store and read back into another [DST-1]."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pybuild.cache.store import Store
from pybuild.exporter.imagetools.place import LayoutPlace
from pybuild.model.descriptor import OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor
from pybuild.model.errors import PybuildError
from tests.clocks import FakeClock


def test_a_layout_takes_blobs_once_and_gives_them_back(tmp_path: Path) -> None:
    fetched: list[str] = []
    told: list[tuple[str, int, int]] = []

    def progress(id: str, at: int, size: int) -> None:
        told.append((id, at, size))

    async def work() -> None:
        with Store.open(tmp_path / "store", FakeClock()) as store:
            data = b"a layer"
            blob = Descriptor(OCI_LAYER_GZIP, store.blobs.put(data), len(data))

            async def fetch() -> None:
                fetched.append(blob.digest)

            place = LayoutPlace(f"{tmp_path}/layout:1")
            for _ in range(2):
                await place.take(blob, store, fetch, (), progress)
            assert fetched == [blob.digest]
            written = tmp_path / "layout/blobs/sha256" / blob.digest.hex
            assert written.read_bytes() == data
            document = b"{}"
            manifest = Descriptor(OCI_MANIFEST, store.blobs.put(document), len(document))
            await place.keep(manifest, document, named=True)
        again = LayoutPlace(f"{tmp_path}/layout:1")
        found, text = await again.root()
        assert (found.digest, text) == (manifest.digest, document)
        with Store.open(tmp_path / "other", FakeClock()) as store:
            await again.bring(blob, store, progress)
            assert store.blobs.read(blob.digest) == data
        assert told == [(blob.digest, blob.size, blob.size)]
        with pytest.raises(PybuildError, match="2"):
            await LayoutPlace(f"{tmp_path}/layout:2").root()

    asyncio.run(work())
