"""Caches carried between stores: by a registry, a directory, an image [CCH]; issue 6, show 2."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybuild.model.descriptor import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST
from tests.e2e.caches import Machines, manifest, requests
from tests.e2e.remotes import Remote
from tests.harness import write
from tests.needs import needs
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


@pytest.fixture
def ref(registry: RegistryProcess, request: pytest.FixtureRequest) -> str:
    """A name of this test alone."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    return f"{registry.host}/caches/{digest}:1"


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "media_type"),
    [
        ("", OCI_MANIFEST),
        (",image-manifest=false", OCI_INDEX),
        (",oci-mediatypes=false", DOCKER_INDEX),
        (",compression=zstd", OCI_MANIFEST),
    ],
)
def test_a_registry_carries_every_step(
    machines: Machines, registry: RegistryProcess, ref: str, form: str, media_type: str
) -> None:
    """[CCH-2, CCH-11] All forms that the reference writes; 0 steps run on a fresh machine."""
    first = machines.build(
        machines.fresh(), "--cache-to", f"type=registry,ref={ref},mode=max{form}"
    )
    assert len(first.ran) == 6
    assert "exporting cache to registry" in first.log
    assert "preparing build cache for export" in first.log
    assert manifest(registry, ref)["mediaType"] == media_type
    again = machines.build(machines.fresh(), "--cache-from", f"type=registry,ref={ref}")
    assert (again.ran, again.made) == ([], first.made)
    assert f"importing cache manifest from {ref}" in again.log


def test_layers_of_another_cache_are_compressed_anew_when_told_to(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """[CCH-2] Nothing runs for it; both caches give the same files."""
    first = machines.build(machines.fresh(), "--cache", ref)
    other = ref[:-1] + "2"
    to = f"type=registry,ref={other},mode=max,compression=zstd,force-compression=true"
    found = machines.build(machines.fresh(), "--cache-from", ref, "--cache-to", to)
    assert (found.ran, found.made) == ([], first.made)
    kinds = {layer["mediaType"].rpartition("+")[2] for layer in manifest(registry, other)["layers"]}
    assert kinds == {"zstd"}
    found = machines.build(machines.fresh(), "--cache-from", other)
    assert (found.ran, found.made) == ([], first.made)


def test_a_directory_carries_every_step(machines: Machines, tmp_path: Path) -> None:
    """[CCH-3] Several tags share a directory, blobs and all."""
    to = f"type=local,dest={tmp_path / 'cache'},mode=max"
    first = machines.build(machines.fresh(), "--cache-to", to)
    (machines.context / "source").write_text("other\n")
    other = machines.build(machines.fresh(), "--cache-to", f"{to},tag=other")
    assert "exporting cache to client directory" in other.log
    index = json.loads((tmp_path / "cache/index.json").read_text())
    tags = [e["annotations"]["org.opencontainers.image.ref.name"] for e in index["manifests"]]
    assert tags == ["latest", "other"]
    found = machines.build(
        machines.fresh(), "--cache-from", f"type=local,src={tmp_path / 'cache'},tag=other"
    )
    assert (found.ran, found.made) == ([], other.made)
    digest = index["manifests"][0]["digest"]
    (machines.context / "source").write_text("s\n")
    found = machines.build(
        machines.fresh(), "--cache-from", f"type=local,src={tmp_path / 'cache'},digest={digest}"
    )
    assert (found.ran, found.made) == ([], first.made)


def test_an_image_carries_its_own_cache(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """[CCH-1] What is built from it again is the same image, byte for byte."""
    push = f"type=image,name={ref},push=true"
    first = machines.build(machines.fresh(), "--cache-to", "type=inline", output=push)
    assert len(first.ran) == 6
    before = manifest(registry, ref)
    again = machines.build(
        machines.fresh(), "--cache-to", "type=inline", "--cache-from", ref, output=push
    )
    assert again.ran == []
    assert manifest(registry, ref) == before
    plain = machines.build(machines.fresh(), "--cache-from", ref, output=push)
    assert plain.ran == []
    assert manifest(registry, ref)["config"] != before["config"], "it carries none any more"


@pytest.mark.parametrize("where", ["registry", "directory"])
def test_one_flag_is_all_that_ci_needs(
    machines: Machines, registry: RegistryProcess, ref: str, tmp_path: Path, where: str
) -> None:
    """[users-want 2] The first run warns of nothing, the second runs nothing."""
    url = ref if where == "registry" else str(tmp_path / "cache")
    first = machines.build(machines.fresh(), "--cache", url)
    assert len(first.ran) == 6
    assert "warning" not in first.log.lower()
    again = machines.build(machines.fresh(), "--cache", url)
    assert (again.ran, again.made) == ([], first.made)


def test_sources_are_asked_in_the_order_given(machines: Machines, tmp_path: Path) -> None:
    made: list[str] = []
    for name in ("one", "two"):
        to = f"type=local,dest={tmp_path / name},mode=max"
        made.append(machines.build(machines.fresh(), "--cache-to", to).made)
    assert made[0] != made[1]
    for order in (("one", "two"), ("two", "one")):
        words = [f"--cache-from=type=local,src={tmp_path / name}" for name in order]
        found = machines.build(machines.fresh(), *words)
        assert (found.ran, found.made) == ([], made[("one", "two").index(order[0])])


# --- how much -------------------------------------------------------------------------------------


def test_a_small_cache_has_the_layers_of_the_result_alone(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """[CCH-10] The steps in between are known by name: what did not change is not made again."""
    small, large = ref, ref[:-1] + "2"
    first = machines.build(
        machines.fresh(),
        *("--cache-to", f"type=registry,ref={small}"),
        *("--cache-to", f"type=registry,ref={large},mode=max"),
    )
    assert len(manifest(registry, small)["layers"]) == 2
    assert len(manifest(registry, large)["layers"]) > 4
    (machines.context / "readme").write_text("changed\n")
    found = machines.build(machines.fresh(), "--cache-from", small)
    assert (found.ran, found.made) == (["COPY readme /"], first.made)
    (machines.context / "source").write_text("changed\n")
    by_small = machines.build(machines.fresh(), "--cache-from", small)
    assert len(by_small.ran) == 6, "a step that changed needs what is below it"
    assert by_small.made.splitlines()[0] == "changed"
    by_large = machines.build(machines.fresh(), "--cache-from", large)
    assert "RUN cat /proc/sys/kernel/random/uuid > /tool" not in by_large.ran
    assert by_large.made.splitlines()[1] == first.made.splitlines()[1]


def test_hits_that_nobody_needs_cost_the_cache_config_alone(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """[CCH-13] With output cacheonly no layer moves; issue 6, show 2."""
    machines.build(machines.fresh(), "--cache-to", f"type=registry,ref={ref},mode=max")
    before = len(requests(registry))
    found = machines.build(machines.fresh(), "--cache-from", ref, output="type=cacheonly")
    assert found.ran == []
    asked = requests(registry)[before:]
    fetched = [line for line in asked if line.startswith("GET") and "/blobs/" in line]
    assert len(fetched) == 1, fetched
    assert manifest(registry, ref)["config"]["digest"] in fetched[0]


def test_two_hundredths_of_the_cache_are_enough_to_know_it_all(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """Issue 6, show 2: with output cacheonly at most 2 % of the cached bytes move."""
    write(machines.context, Dockerfile="FROM base\nCOPY big /\nRUN cat /big /big > /bigger\n")
    (machines.context / "big").write_bytes(os.urandom(1 << 20))
    machines.build(machines.fresh(), "--cache", ref, output="type=cacheonly")
    before = len(requests(registry))
    found = machines.build(machines.fresh(), "--cache-from", ref, output="type=cacheonly")
    assert found.ran == []
    document = manifest(registry, ref)
    fetched = [r for r in requests(registry)[before:] if r.startswith("GET") and "/blobs/" in r]
    assert [document["config"]["digest"] in line for line in fetched] == [True]
    cached = sum(layer["size"] for layer in document["layers"])
    assert len(json.dumps(document)) + document["config"]["size"] <= 0.02 * cached


def test_a_cache_that_is_there_is_not_sent_again(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    to = f"type=registry,ref={ref},mode=max"
    machines.build(machines.fresh(), "--cache-to", to)
    manifest_before, before = manifest(registry, ref), len(requests(registry))
    machine = machines.fresh()
    found = machines.build(machine, "--cache-from", ref, "--cache-to", to, output="type=cacheonly")
    assert found.ran == []
    asked = requests(registry)[before:]
    assert [line for line in asked if line.startswith(("POST", "PATCH"))] == []
    assert len([line for line in asked if "GET" in line and "/blobs/" in line]) == 1
    assert manifest(registry, ref) == manifest_before


# --- what may go wrong ----------------------------------------------------------------------------


def test_a_layer_that_is_gone_is_made_again(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """[CCH-12] Its step runs; results that need nothing of it are still found."""
    machines.build(machines.fresh(), "--cache-to", f"type=registry,ref={ref},mode=max")
    machine = machines.fresh()
    for layer in manifest(registry, ref)["layers"]:
        blob = registry.root / "docker/registry/v2/blobs/sha256"
        shutil.rmtree(blob / layer["digest"][7:9] / layer["digest"][7:])
    found = machines.build(machine, "--cache-from", ref)
    assert len(found.ran) == 6
    assert "its step runs" in found.log
    assert found.made


def test_a_layer_that_is_not_what_it_says_is_made_again(machines: Machines, tmp_path: Path) -> None:
    """[CCH-16] The right digest of a wrong layer: the diffID tells."""
    cache = tmp_path / "cache"
    machines.build(machines.fresh(), "--cache-to", f"type=local,dest={cache},mode=max")
    index = json.loads((cache / "index.json").read_text())
    blobs = cache / "blobs/sha256"
    document = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / document["config"]["digest"][7:]).read_text())
    for layer in config["layers"]:  # each claims to be another
        layer["annotations"]["diffID"] = (
            "sha256:" + hashlib.sha256(layer["blob"].encode()).hexdigest()
        )
    document["config"] |= put(blobs, config)
    index["manifests"][0] |= put(blobs, document)
    (cache / "index.json").write_text(json.dumps(index))
    found = machines.build(machines.fresh(), "--cache-from", f"type=local,src={cache}")
    assert len(found.ran) == 6
    assert found.made


def put(blobs: Path, value: object) -> dict[str, Any]:
    data = json.dumps(value).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("type=registry,ref={host}/no/such:1", "not found"),
        ("127.0.0.1:1/x/y:1", "cannot import"),
        ("type=local,src={tmp}/nothing", "no OCI layout"),
        ("type=registry,ref={host}/images/plain:1", "carries no cache"),
    ],
)
def test_a_source_that_cannot_be_read_is_a_warning_that_names_it(
    machines: Machines, registry: RegistryProcess, tmp_path: Path, source: str, why: str
) -> None:
    """[CCH-12]"""
    plain = f"{registry.host}/images/plain:1"
    machines.build(machines.fresh(), output=f"type=image,name={plain},push=true")
    words = source.format(host=registry.host, tmp=tmp_path)
    found = machines.build(machines.fresh(), "--cache-from", words)
    assert len(found.ran) == 6
    assert f"cannot import the cache from {words.rpartition('=')[2]}" in found.log
    assert why in found.log


def test_an_export_that_fails_fails_the_build_unless_told_otherwise(
    machines: Machines, tmp_path: Path
) -> None:
    to = "type=registry,ref=127.0.0.1:1/x/y:1"
    machine = machines.fresh()
    machines.build(machine, "--cache-to", to, code=3)
    found = machines.build(machine, "--cache-to", f"{to},ignore-error=true")
    assert "the cache was not exported" in found.log
    assert found.made


def test_a_registry_that_is_called_like_a_directory_was_perhaps_not_meant(
    machines: Machines, tmp_path: Path
) -> None:
    """It is asked all the same; only where that fails there is doubt."""
    (tmp_path / "127.0.0.1:1/x").mkdir(parents=True)
    words = ("build", "-o", "type=cacheonly", machines.context)
    done = machines.fresh()(*words, "--cache", "127.0.0.1:1/x", cwd=tmp_path)
    doubt = "(did you mean ./127.0.0.1:1/x?)"
    for warning in ("cannot import the cache from 127.0.0.1:1/x:", "the cache was not exported: "):
        (line,) = (line for line in done.err.splitlines() if warning in line)
        assert line.endswith(doubt)
    done = machines.fresh()(*words, "--cache-to", "127.0.0.1:1/x", cwd=tmp_path, code=3)
    assert done.err.count("(did you mean type=local,dest=127.0.0.1:1/x?)") == 1


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
def test_a_cache_that_cannot_be_written_costs_a_warning(machines: Machines, place: str) -> None:
    """[CCH-10] With ``--cache``; a directory is full, read-only or somebody else's."""
    found = machines.build(machines.fresh(), "--cache", place)
    assert found.log.count("the cache will not be exported: ") == 1
    assert f"cache {place}: " in found.log or f"cache directory {place}: " in found.log
    assert found.made and "was not exported" not in found.log


# --- by a server ----------------------------------------------------------------------------------


def test_a_server_uses_directories_of_its_client(
    machines: Machines, registry: RegistryProcess, ref: str, tmp_path: Path
) -> None:
    """[remote-api 7.4] Through the session: exported, imported on another server, nothing runs."""
    cache = tmp_path / "cache"
    made: list[str] = []
    for number, words in enumerate(
        [
            ("--cache-to", f"type=local,dest={cache},mode=max", "--cache-to", f"{ref}"),
            ("--cache-from", f"type=local,src={cache}"),
            ("--cache-from", ref),
        ]
    ):
        sockets = tmp_path / f"s{number}"
        sockets.mkdir()
        with machines.server(sockets) as server:
            remote = Remote(tmp_path / f"here-{number}", host=server.address)
            built = machines.build(remote, *words)
            made.append(built.made)
            assert len(built.ran) == (0 if number else 6), built.log
    assert made == [made[0]] * 3
