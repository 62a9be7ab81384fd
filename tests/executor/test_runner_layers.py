"""Layers that are pulled: unpacked once, when needed, and only if they are what was promised."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Sequence
from typing import Any

import pytest

from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.model.ops import (
    Copy,
    FileOp,
    ImageSource,
)
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.reference import Reference
from pybuild.model.selection import Selection
from pybuild.model.snapshot import Snapshot
from tests.executor.runner_site import Run, Site, site

__all__ = ["site"]

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def layer(
    entries: Sequence[tuple[str, str | None]], links: Sequence[tuple[str, str]] = ()
) -> bytes:
    """An uncompressed layer tar: names with content; None is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.mode = 0o755 if content is None else 0o644
            data = (content or "").encode()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)
    return out.getvalue()


def image(s: Site, *layers: bytes, here: bool = False) -> ImageSource:
    """Put an image's manifest and config into the store, its layers on the shelf (or here too)."""
    described: list[dict[str, Any]] = []
    for data in layers:
        digest = Digest.of(data)
        s.shelf.blobs[digest] = data
        if here:
            s.store.blobs.put(data)
        described.append({"mediaType": OCI_LAYER, "digest": digest, "size": len(data)})
    diff_ids = [Digest.of(data) for data in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": OCI_CONFIG,
                "digest": s.store.blobs.put(config),
                "size": len(config),
            },
            "layers": described,
        }
    ).encode()
    return ImageSource(
        digest=s.store.blobs.put(manifest),
        reference=Reference.parse("example.com/x"),
        platform=LINUX_AMD64,
    )


@pytest.mark.slow
def test_image_is_unpacked_only_when_its_files_are_needed_and_only_once(site: Run) -> None:
    """ARC-7."""

    async def body(s: Site) -> None:
        source = image(s, layer([("d", None), ("d/a", "1")]), layer([("d", None), ("d/b", "2")]))
        result = await s.run(source)
        assert isinstance(result, Snapshot)
        assert s.shelf.fetched == []
        assert not any(s.store.deltas.has(delta) for delta in result.deltas)
        copy = FileOp(actions=(Copy(input=1, source="/d", dest="/d"),))
        builds = [s.again() for _ in range(3)]
        async with asyncio.TaskGroup() as group:
            for runner in builds:
                group.create_task(s.run(copy, Snapshot(), result, runner=runner))
        assert sorted(s.shelf.fetched) == sorted(result.deltas)
        digest = await s.runner.content_digest(result, Selection(path="/d"))
        assert [path for path, _ in digest.entries] == ["d", "d/a", "d/b"]

    site(body)


@pytest.mark.slow
def test_few_layers_are_unpacked_at_once(site: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes processes and memory; that there are more of them makes nothing faster."""

    async def body(s: Site) -> None:
        busy = most = 0
        call = s.workers.call

        async def counted(*args: Any, **options: Any) -> dict[str, Any]:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            try:
                return await call(*args, **options)
            finally:
                busy -= 1

        monkeypatch.setattr(s.workers, "call", counted)
        result = await s.run(image(s, *(layer([(str(n), "x")]) for n in range(12))))
        assert isinstance(result, Snapshot)
        assert len(await s.runner.ensure(result)) == 12
        assert 1 < most <= 4

    site(body)


def test_layer_that_turns_out_wrong_when_it_has_come_leaves_nothing(site: Run) -> None:
    """It was unpacked while it came; its diffID is right, and its blob is not what was asked for."""

    async def body(s: Site) -> None:
        result = await s.run(image(s, layer([("d", None), ("d/a", "1")])))
        assert isinstance(result, Snapshot)
        ((digest, data),) = s.shelf.blobs.items()
        s.shelf.blobs[digest] = data[:-1] + bytes([data[-1] ^ 1])
        with pytest.raises(EnvironmentFault, match=f"blob {digest}: got sha256:"):
            await s.runner.ensure(result)
        assert not any(s.store.deltas.has(delta) for delta in result.deltas)
        assert not s.store.blobs.has(digest)
        s.shelf.blobs[digest] = data
        (path,) = await s.runner.ensure(result)
        assert os.listdir(path) == ["d"]

    site(body)


def test_layer_that_needs_what_lies_below_is_told_apart_by_its_chain(site: Run) -> None:
    """The same layer over two bases is two trees."""

    async def body(s: Site) -> None:
        top = layer([("d/b", "2")], links=[("d/hard", "d/a")])
        for content in ("one", "two"):
            source = image(s, layer([("d", None), ("d/a", content)]), top, here=True)
            result = await s.run(source)
            assert isinstance(result, Snapshot)
            copied = await s.files(Copy(input=1, source="/d", dest="/d"), more=[result])
            assert (s.top(copied) / "d" / "hard").read_text() == content
            paths = await s.runner.ensure(result)
            assert [os.path.isdir(path) for path in paths] == [True, True]
            assert "/chain-" in paths[1]

    site(body)


def test_layer_with_the_wrong_content_is_refused(site: Run) -> None:
    async def body(s: Site) -> None:
        good, bad = layer([("a", "1")]), layer([("a", "2")])
        result = await s.run(image(s, good))
        assert isinstance(result, Snapshot)
        facts = s.store.records.get("layer", result.deltas[0])
        assert facts is not None
        s.store.blobs.put(bad)
        facts["descriptor"] = {"mediaType": OCI_LAYER, "digest": Digest.of(bad), "size": len(bad)}
        s.store.records.put("layer", result.deltas[0], facts)
        with pytest.raises(PybuildError) as caught:
            await s.runner.ensure(result)
        assert Digest.of(bad) in str(caught.value) or isinstance(caught.value, EnvironmentFault)
        assert not s.store.deltas.has(result.deltas[0])

    site(body)


def test_layer_that_nobody_has_is_a_fault(site: Run) -> None:
    async def body(s: Site) -> None:
        result = await s.run(image(s, layer([("a", "1")])))
        assert isinstance(result, Snapshot)
        s.shelf.blobs.clear()
        with pytest.raises(EnvironmentFault, match="nobody has"):
            await s.runner.ensure(result)

    site(body)
