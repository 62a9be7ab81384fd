"""Layers of one image in the making."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pybuild.cache.disk.atomic import Disk
from pybuild.cache.store import Store
from pybuild.executor.workers.job import Job
from pybuild.exporter.layermaker import LayerMaker
from pybuild.image.layer.orders import LayerBlob
from pybuild.model.border import unpacked
from pybuild.model.digest import Digest
from tests.registry.fakes import WallClock


def test_few_layers_are_made_at_once(tmp_path: Path) -> None:
    """Each has buffers and threads of its own: thirty at once took 280 MB."""
    going = most = 0

    async def call(work: Job[Any], **options: object) -> LayerBlob:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0.001)
        going -= 1
        path, order = map(unpacked, work.args)
        data = path.encode()
        Path(order.out).write_bytes(data)
        digest = str(Digest.of(data))
        return LayerBlob(digest, digest, len(data), len(data), {})

    async def in_namespace() -> bool:
        return False

    async def work(store: Store) -> list[Any]:
        engine = SimpleNamespace(
            store=store, workers=SimpleNamespace(call=call), userxattr=in_namespace
        )
        maker = LayerMaker(cast(Any, engine), "gzip", None)
        return await asyncio.gather(*(maker.write(f"delta{n}", None) for n in range(30)))

    with Store.open(str(tmp_path / "store"), WallClock(), disk=Disk("named")) as store:
        made = asyncio.run(work(store))
        assert len({descriptor.digest for _, descriptor in made}) == 30
        assert all(store.blobs.has(descriptor.digest) for _, descriptor in made)
    assert 1 < most <= 4
