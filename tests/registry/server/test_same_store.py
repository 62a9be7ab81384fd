"""A push from the store to a server on the store moves no blob, and gives nobody else anything."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from pybuild.cache.content.storekey import identity, make_key, proof, read_key
from pybuild.cache.store import Store
from pybuild.image.manifest import build_manifest
from pybuild.model.descriptor import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.registry.client.push import push_image
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening
from pybuild.registry.server.settings import RegistrySettings
from tests.registry.conftest import client, run
from tests.registry.fakes import WallClock
from tests.registry.server.serving import served


def built(store: Store) -> Descriptor:
    """An image in the store, as a build leaves it."""
    config = store.blobs.put(b'{"rootfs": {"type": "layers", "diff_ids": []}}')
    layer = store.blobs.put(b"layer" * 200_000)
    data = build_manifest(
        Descriptor(OCI_CONFIG, config, store.blobs.size(config)),
        [Descriptor(OCI_LAYER, layer, store.blobs.size(layer))],
    )
    return Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data))


def test_a_push_to_the_same_store_moves_nothing_but_the_manifest(tmp_path: Path) -> None:
    async def work() -> None:
        with Store.open(tmp_path, WallClock()) as store:
            hosting = Hosting(store, RegistrySettings(grace_s=0.2))
            async with listening(hosting, ["127.0.0.1:0"]) as [host], client() as ours:
                image = built(store)
                name = Reference.parse(f"{host}/team/app:v1")
                await push_image(ours, store.blobs, image, [name])
                assert hosting.metrics.received_bytes == image.size
                assert hosting.metrics.linked == {("store",): 2}
                found, data = await ours.manifest(name)
                assert found == image
                layer = store.repositories["team/app"].blobs()
                assert len(layer) == 2
                assert data == store.blobs.read(image.digest)

    run(work())


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_build_pushed_to_its_own_store_moves_no_layer(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY big /\nCOPY small /\n")
    (tmp_path / "big").write_bytes(os.urandom(3 << 20))
    root = tmp_path / "store"

    async def build(host: str) -> None:
        words = ["build", "--root", str(root), "-t", f"{host}/app:v1", "--push", str(tmp_path)]
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pybuild", *words, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await done.communicate()
        assert done.returncode == 0, errors.decode()

    async def work() -> None:
        with Store.open(root, WallClock()) as store:
            hosting = Hosting(store, RegistrySettings(grace_s=0.2))
            async with listening(hosting, ["127.0.0.1:0"]) as [host]:
                for content in (b"first", b"second"):
                    (tmp_path / "small").write_bytes(content)
                    hosting.metrics.received_bytes = 0
                    await build(host)
                    named = store.repositories["app"].tag("v1")
                    assert named is not None
                    assert hosting.metrics.received_bytes == named.size
            assert hosting.metrics.linked["store",] == 5, "two layers and a config, then two more"

    run(work(), 60)


def test_a_push_from_another_store_sends_the_blobs(tmp_path: Path) -> None:
    async def work() -> None:
        with (
            Store.open(tmp_path / "ours", WallClock()) as ours,
            Store.open(tmp_path / "theirs", WallClock()) as theirs,
        ):
            make_key(ours.root, ours.disk, ours.tmp)
            hosting = Hosting(theirs, RegistrySettings(grace_s=0.2))
            async with listening(hosting, ["127.0.0.1:0"]) as [host], client() as to_host:
                image = built(ours)
                await push_image(to_host, ours.blobs, image, [Reference.parse(f"{host}/a:v1")])
                assert hosting.metrics.linked == {}
                assert hosting.metrics.received_bytes > 1_000_000

    run(work())


@pytest.mark.parametrize(
    "of", ["nothing", "other key", "other repository", "other blob", "strange"]
)
def test_only_a_proof_for_that_blob_and_repository_links_it(tmp_path: Path, of: str) -> None:
    async def work() -> None:
        async with served(tmp_path) as one:
            secret, known = one.store.blobs.put(b"of a build"), one.store.blobs.put(b"known")
            key = make_key(one.store.root, one.store.disk, one.store.tmp)
            given = {
                "nothing": "",
                "other key": proof(b"x" * 32, "a", secret),
                "other repository": proof(key, "b", secret),
                "other blob": proof(key, "a", known),
                "strange": "\u00fcber",
            }[of]
            path = f"/v2/a/blobs/uploads/?mount={secret}"
            answer = await one.ask("POST", path, headers={"Pybuild-Store-Proof": given})
            assert answer.status == 202
            assert (await one.ask("GET", f"/v2/a/blobs/{secret}")).status == 404
            right = {"Pybuild-Store-Proof": proof(key, "a", secret)}
            assert (await one.ask("POST", path, headers=right)).status == 201
            assert (await one.ask("GET", f"/v2/a/blobs/{secret}")).body == b"of a build"
            gone = Digest.of(b"gone")
            right = {"Pybuild-Store-Proof": proof(key, "a", gone)}
            path = f"/v2/a/blobs/uploads/?mount={gone}"
            assert (await one.ask("POST", path, headers=right)).status == 202

    run(work())


def test_the_key_is_made_once_and_says_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path, WallClock()) as store:
        assert read_key(store.root) is None
        assert store.blobs.proof("anything", "a", Digest.of(b"")) is None
        key = make_key(store.root, store.disk, store.tmp)
        assert make_key(store.root, store.disk, store.tmp) == key
        assert (tmp_path / "registry" / "key").stat().st_mode & 0o777 == 0o600
        assert key.hex() not in identity(key) + proof(key, "a", Digest.of(b""))
        assert identity(key) not in proof(key, "a", Digest.of(b""))
