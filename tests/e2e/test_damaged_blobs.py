"""Blobs whose bytes changed behind our back, at their size: had again, or named in full [STO-1]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.caches import Machines
from tests.harness import Pybuild, remove_store, write
from tests.needs import need
from tests.services import RegistryProcess, start_registry

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = "FROM {base}\nRUN echo made > /made\n"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    need("docker-registry")
    with start_registry(tmp_path) as running:
        yield running


def damage(path: Path) -> None:
    """Change one byte in the middle."""
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def blob(store: Path, digest: str) -> Path:
    return store / "blobs" / "sha256" / digest.removeprefix("sha256:")


def layers(pybuild: Pybuild, image: str) -> list[Path]:
    """The blobs of an image's layers, base first."""
    index = json.loads((pybuild.store / "index.json").read_text())
    (entry,) = [m for m in index["manifests"] if image in str(m.get("annotations"))]
    document = json.loads(blob(pybuild.store, entry["digest"]).read_text())
    return [blob(pybuild.store, layer["digest"]) for layer in document["layers"]]


def forget_trees(store: Path) -> None:
    for tree in (store / "snapshots").iterdir():
        remove_store(tree)


@pytest.mark.registry
def test_a_base_layer_that_was_damaged_here_is_pulled_again(
    pybuild: Pybuild, base: str, tmp_path: Path, registry: RegistryProcess
) -> None:
    name = f"{registry.host}/lib/base:1"
    pybuild("tag", base, name)
    pybuild("push", name)
    other = Pybuild(tmp_path / "other")
    other("pull", name)
    (layer,) = layers(other, "lib/base")
    whole = layer.read_bytes()
    damage(layer)
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=name))
    out = tmp_path / "out"
    other("build", "-o", f"type=local,dest={out}", context)
    assert (out / "made").read_text() == "made\n"
    assert layer.read_bytes() == whole


@pytest.mark.registry
def test_a_base_layer_that_its_registry_damaged_is_named_with_its_image(
    pybuild: Pybuild, base: str, tmp_path: Path, registry: RegistryProcess
) -> None:
    name = f"{registry.host}/lib/base:1"
    (layer,) = layers(pybuild, base)
    pybuild("tag", base, name)
    pybuild("push", name)
    damage(registry.root / "docker/registry/v2/blobs/sha256" / layer.name[:2] / layer.name / "data")
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=name))
    said = Pybuild(tmp_path / "other")("build", context, code=3).err
    assert f"layer sha256:{layer.name} of {name}" in said
    assert f"hint: push the image to {registry.host} again, if that lost or damaged it" in said


def test_a_base_layer_that_nobody_has_is_named_with_its_image(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    (layer,) = layers(pybuild, base)
    damage(layer)
    forget_trees(pybuild.store)
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=base))
    said = pybuild("build", context, code=3).err
    assert f"layer sha256:{layer.name} of {base}:latest is not in the store" in said
    assert "hint: or build or load it here" in said


def test_a_base_whose_config_is_damaged_is_named_before_the_registry_that_lacks_it(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    index = json.loads((pybuild.store / "index.json").read_text())
    (entry,) = [m for m in index["manifests"] if base in str(m.get("annotations"))]
    config = json.loads(blob(pybuild.store, entry["digest"]).read_text())["config"]["digest"]
    damage(blob(pybuild.store, config))
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=base))
    said = [pybuild("build", context, code=None).err for _ in range(2)]
    for text in said:
        assert f"the store has {base}:latest, but blob {config}: " in text
        assert f"hint: build, load or pull {base}:latest again" in text


@pytest.mark.parametrize("kind", ["oci", "docker", "push"])
def test_a_layer_of_ours_that_was_damaged_is_made_again(
    pybuild: Pybuild,
    base: str,
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=base))
    pybuild("build", "-t", "made", context)
    layer = layers(pybuild, "made")[-1]
    whole = layer.read_bytes()
    damage(layer)
    if kind == "push":
        registry: RegistryProcess = request.getfixturevalue("registry")
        words = ["-t", f"{registry.host}/made:1", "--push"]
    else:
        words = ["-o", f"type={kind},dest={tmp_path / 'archive'}"]
    done = pybuild("build", "--progress", "plain", *words, context)
    assert f"blob sha256:{layer.name}: " in done.err
    assert "is made or fetched again" in done.err
    assert layer.read_bytes() == whole


def test_an_archive_that_was_begun_on_standard_output_is_not_begun_twice(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=DOCKERFILE.format(base=base))
    pybuild("build", "-t", "made", context)
    damage(layers(pybuild, "made")[-1])
    words = ("build", "-o", "type=oci,dest=-", context)
    assert "hint: build again" in pybuild(*words, code=3).err
    pybuild(*words)


def test_a_damaged_layer_of_a_cache_directory_is_written_again(
    base_store: Path, tmp_path: Path
) -> None:
    machines = Machines(tmp_path, base_store)
    write(machines.context, Dockerfile="FROM base\nCOPY readme /made\n")
    cache = tmp_path / "cache"
    machines.build(machines.fresh(), "--cache", cache, output="type=cacheonly")
    blobs = (cache / "blobs" / "sha256").iterdir()
    (layer,) = [
        path
        for path in blobs
        if path.read_bytes()[:2] == b"\x1f\x8b" and path.stat().st_size < 1000
    ]
    whole = layer.read_bytes()
    damage(layer)
    assert machines.build(machines.fresh(), "--cache", cache).ran == ["COPY readme /made"]
    assert layer.read_bytes() == whole
    assert machines.build(machines.fresh(), "--cache", cache).ran == []
