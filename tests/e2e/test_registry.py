"""The example from a Debian base in a registry, back into it, and run by ourselves and others.

Shows 2 of the spine. The registry, the peers (skopeo, umoci, crun, runc) and apt are the real ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from tests.e2e.test_containers import wait_until
from tests.harness import ROOT, Done, Pybuild, leftovers, remove_store, write
from tests.image.images import assert_valid
from tests.needs import lacking, needs
from tests.ports import free_ports
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    pytest.mark.network,
    needs("docker-registry"),
    pytest.mark.skipif(os.geteuid() != 0, reason="mmdebstrap's base and the runtimes need root"),
]


def need(program: str) -> str:
    """The path of a peer, or skip."""
    if why := lacking(program):
        pytest.skip(why)
    return str(shutil.which(program))


def run(*command: str | Path, timeout: float = 120) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def debian_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minimal Debian, made once a session."""
    need("mmdebstrap")
    made = tmp_path_factory.mktemp("debian") / "base.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(made)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"mmdebstrap makes no base here: {last}")
    return made


@dataclass(frozen=True)
class World:
    """A registry that has Debian and the example built from it, and the store that built it."""

    registry: RegistryProcess
    config: Path
    builder: Pybuild
    base: str  # digest of the base's manifest
    log_of_build: str
    log_of_registry: list[str]  # requests while the example was built and pushed
    web: str
    build_stage: str

    def fresh(self, store: Path) -> Pybuild:
        return Pybuild(store, self.config)

    def requests(self, since: int = 0) -> list[str]:
        return requests(self.registry, since)


def requests(registry: RegistryProcess, since: int = 0) -> list[str]:
    """``METHOD path status`` of all requests that the registry has logged, from the n-th on."""
    found: list[str] = []
    for line in registry.log.read_text(errors="replace").splitlines():
        _, quote, rest = line.partition(' "')
        request, _, tail = rest.partition('" ')
        words = request.split()
        if quote and len(words) == 3 and words[2].startswith("HTTP/"):
            found.append(f"{words[0]} {words[1]} {tail.split()[0]}")
    return found[since:]


@pytest.fixture(scope="module")
def world(debian_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Debian goes to the registry; the example is built from what comes back, and pushed."""
    where = tmp_path_factory.mktemp("world")
    with start_registry(where) as registry:
        config = where / "pybuild.toml"
        config.write_text(f'[registry."docker.io"]\nmirrors = ["{registry.host}"]\n')
        maker = Pybuild(where / "maker", config)
        context = write(where / "debian", Dockerfile='FROM scratch\nADD base.tar /\nCMD ["bash"]\n')
        os.link(debian_tar, context / "base.tar")
        served = f"{registry.host}/library/debian:bookworm-slim"
        maker("build", "-t", served, "--push", "--metadata-file", where / "base.json", context)
        base = json.loads((where / "base.json").read_text())["containerimage.digest"]
        remove_store(maker.store)

        builder = Pybuild(where / "builder", config)
        web, stage = f"{registry.host}/apps/web:1", f"{registry.host}/apps/build:1"
        example = ROOT / "examples/webservice"
        before = len(requests(registry))
        words = ["build", "--progress", "plain", "--build-arg", "VERSION=1.2", "--push"]
        done = builder(*words, "-t", web, example, timeout=400)
        builder(*words, "-t", stage, "--target", "build", example, timeout=400)
        log = requests(registry, before)
        yield World(registry, config, builder, base, done.err, log, web, stage)


def blob_path(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")


def layout_manifest(layout: Path) -> tuple[Descriptor, dict[str, Any]]:
    """The only manifest of an OCI layout, after everything below it was recomputed."""
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    descriptor = Descriptor.from_json(entry)

    def open_blob(digest: Digest) -> BinaryIO:
        return blob_path(layout, digest).open("rb")

    assert_valid(open_blob, descriptor)
    return descriptor, json.loads(blob_path(layout, descriptor.digest).read_text())


def inspected(pybuild: Pybuild, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(pybuild("inspect", "--oci", name).out)
    return shown


def pull_by_skopeo(world: World, name: str, layout: Path) -> None:
    need("skopeo")
    source = f"docker://{name}"
    run("skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{layout}:it")


def test_the_example_is_built_from_a_base_that_a_mirror_served(world: World) -> None:
    """FROM debian:bookworm-slim, docker.io being out of reach; apt-get ran inside."""
    base = f"FROM docker.io/library/debian:bookworm-slim@{world.base}"
    assert base in world.log_of_build
    assert "Setting up gcc" in world.log_of_build
    assert "ok: the service answers" in world.log_of_build
    served = [line for line in world.log_of_registry if line.startswith("GET /v2/library/debian/")]
    assert any("/manifests/bookworm-slim" in line for line in served)
    assert len([line for line in served if "/blobs/" in line]) == 2, "config and layer, once each"
    assert leftovers(world.builder.store) == []


def test_skopeo_pulls_what_was_pushed_and_every_digest_is_right(
    world: World, tmp_path: Path
) -> None:
    pull_by_skopeo(world, world.web, tmp_path / "oci")
    descriptor, manifest = layout_manifest(tmp_path / "oci")
    assert descriptor.digest == inspected(world.builder, world.web)["descriptor"]["digest"]
    assert len(manifest["layers"]) == 2
    config = json.loads(blob_path(tmp_path / "oci", manifest["config"]["digest"]).read_text())
    assert config["config"]["Entrypoint"] == ["/usr/bin/greeter"]
    assert config["config"]["User"] == "65534:65534"


def test_our_pull_checks_and_runs(world: World, tmp_path: Path) -> None:
    pybuild = world.fresh(tmp_path / "store")
    assert pybuild("pull", "-q", world.web).out == world.web + "\n"
    assert "every digest, diffID and size is right" in pybuild("inspect", "--check", world.web).out
    assert pybuild("run", world.web, "--version").out == "greeter 1.2\n"
    with serving(pybuild, world.web) as port:
        probe = pybuild("run", "--network=host", "-e", f"PORT={port}", world.web, "--probe")
        assert probe.out == "hello from greeter 1.2\n"
    wait_until(lambda: not leftovers(pybuild.store))


def test_run_pulls_an_image_that_is_not_here(world: World, tmp_path: Path) -> None:
    pybuild = world.fresh(tmp_path / "store")
    assert pybuild("run", world.web, "--version").out == "greeter 1.2\n"


@contextlib.contextmanager
def serving(pybuild: Pybuild, image: str) -> Generator[int]:
    """The service under ``pybuild run``; ended by SIGTERM, and it must end."""
    (port,) = free_ports()
    server = subprocess.Popen(
        pybuild.command("run", "--network=host", "-e", f"PORT={port}", image),
        env=pybuild.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None and time.monotonic() < deadline, "the service is not up"
            time.sleep(0.05)
        yield port
        server.terminate()
        server.communicate(timeout=60)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_other_runtimes_run_the_bundle(world: World, tmp_path: Path, runtime: str) -> None:
    """The container's own control groups need the pure v2 hierarchy; it is mounted aside for it."""
    need(runtime)
    bundle = tmp_path / "bundle"
    world.builder("unpack", world.web, bundle)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"]["args"].append("--version")
    (bundle / "config.json").write_text(json.dumps(spec))
    options = ["--cgroup-manager=disabled"] if runtime == "crun" else []
    in_own_mounts = (
        "if ! mountpoint -q /sys/fs/cgroup || [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then "
        "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup || exit 77; fi; "
        'cd "$1" && shift && exec "$@"'
    )
    command = [runtime, *options, "--root", str(tmp_path / "state"), "run", "pybuild-e2e"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", in_own_mounts, "sh", str(bundle), *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "cgroup" in done.stderr and done.returncode:
        pytest.skip(f"{runtime} and this kernel's control groups: {done.stderr.strip()[-200:]}")
    assert (done.returncode, done.stdout) == (0, "greeter 1.2\n"), done.stderr


def test_umoci_unpacks_the_same_tree_as_we_do(world: World, tmp_path: Path) -> None:
    need("umoci")
    pull_by_skopeo(world, world.build_stage, tmp_path / "oci")
    layout_manifest(tmp_path / "oci")
    run("umoci", "unpack", "--image", f"{tmp_path}/oci:it", tmp_path / "theirs")
    world.builder("unpack", world.build_stage, tmp_path / "ours")
    theirs, ours = tree(tmp_path / "theirs/rootfs"), tree(tmp_path / "ours/rootfs")
    assert len(ours) > 5000
    # umoci gives names of one file to each a file of its own; all else must agree.
    assert {path: facts for path, facts in theirs.items() if ours.get(path) != facts} == {}
    assert ours.keys() == theirs.keys()


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Type, mode, owner, size or link target, and time of everything below *root*."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            what: object = None
            if os.path.islink(path):
                what = os.readlink(path)
            elif os.path.isfile(path):
                what = status.st_size
            facts = (oct(status.st_mode), status.st_uid, status.st_gid, what)
            found[os.path.relpath(path, root)] = (*facts, int(status.st_mtime))
    return found


def test_skopeo_reads_the_store_in_place(world: World) -> None:
    """STO-2: the store is a layout; each image is found by its full name."""
    need("skopeo")
    for name in (world.web, world.build_stage):
        shown = json.loads(run("skopeo", "inspect", f"oci:{world.builder.store}:{name}"))
        assert shown["Digest"] == inspected(world.builder, name)["descriptor"]["digest"]


def test_base_layers_keep_their_digests_and_are_mounted_not_sent(world: World) -> None:
    """OUT-12: what came from one repository of a registry goes to another without any upload."""
    stage = inspected(world.builder, world.build_stage)["manifest"]["layers"]
    (layer,) = manifest_of(world, f"library/debian:{world.base}")["layers"]
    assert stage[0] == layer
    mounted = [line for line in world.log_of_registry if "mount=" in line]
    assert any(layer["digest"].replace(":", "%3A") in line for line in mounted), mounted
    assert all(line.endswith(" 201") for line in mounted), mounted
    sent = [
        line
        for line in world.log_of_registry
        if line.startswith(("PUT", "PATCH")) and layer["digest"].removeprefix("sha256:") in line
    ]
    assert sent == []


def manifest_of(world: World, name: str) -> dict[str, Any]:
    """A manifest as the registry's disk has it, ``path:digest``."""
    _, _, digest = name.partition(":")
    hexes = digest.removeprefix("sha256:")
    path = world.registry.root / f"docker/registry/v2/blobs/sha256/{hexes[:2]}/{hexes}/data"
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_a_second_push_moves_nothing(world: World) -> None:
    before = len(world.requests())
    world.builder("push", "-q", world.build_stage)
    again = world.requests(before)
    assert [line for line in again if "/blobs/" in line and not line.startswith("HEAD")] == []
    assert {line.split()[-1] for line in again if line.startswith("HEAD")} == {"200"}


def test_the_same_image_under_another_name_is_mounted(world: World) -> None:
    """Layers of our own earlier push are mounted, too: we remember that the registry has them."""
    other = f"{world.registry.host}/elsewhere/build:2"
    world.builder("tag", world.build_stage, other)
    before = len(world.requests())
    world.builder("push", "-q", other)
    again = world.requests(before)
    layers = len(inspected(world.builder, other)["manifest"]["layers"])
    mounted = [line for line in again if "mount=" in line and line.endswith(" 201")]
    assert len(mounted) >= layers, again


def test_metadata_alone_fetches_and_unpacks_no_layer(world: World, tmp_path: Path) -> None:
    """ARC-7: a base is only what is needed of it."""
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {world.build_stage}\nLABEL a=b\n")
    pybuild = world.fresh(tmp_path / "store")
    before = len(world.requests())
    pybuild("build", "-o", "type=cacheonly", context)
    fetched = [line for line in world.requests(before) if "/blobs/" in line]
    (config,) = fetched
    assert config.split()[0] == "GET"
    pybuild("build", "-t", f"{world.registry.host}/apps/labelled:1", "--push", context)
    assert list((pybuild.store / "snapshots").iterdir()) == []
    assert (
        "every digest"
        in pybuild("inspect", "--check", f"{world.registry.host}/apps/labelled:1").out
    )


def test_a_linked_copy_runs_without_the_base(world: World, tmp_path: Path) -> None:
    """ARC-7: COPY --link needs nothing of what it lands on."""
    context = write(
        tmp_path / "ctx",
        Dockerfile=f"FROM {world.build_stage}\nCOPY --link a.txt /opt/\n",
        **{"a.txt": "a\n"},
    )
    pybuild = world.fresh(tmp_path / "store")
    pybuild("build", "-t", "linked", context)
    deltas = sorted(entry.name for entry in (pybuild.store / "snapshots").iterdir())
    assert [name for name in deltas if name.startswith(("sha256-", "chain-"))] == []
    assert pybuild("run", "linked", "cat", "/opt/a.txt").out == "a\n"


def test_a_base_from_the_registry_is_pinned_until_pull_is_asked_for(
    world: World, tmp_path: Path
) -> None:
    """FROM-18: a name once resolved is not asked again, except with --pull."""
    name = f"{world.registry.host}/apps/moving:1"

    def publish(word: str) -> Done:
        context = write(
            tmp_path / word, Dockerfile=f"FROM scratch\nCOPY w /\nLABEL w={word}\n", w=word
        )
        return world.fresh(tmp_path / "publisher")("build", "-t", name, "--push", context)

    publish("one")
    pybuild = world.fresh(tmp_path / "store")
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {name}\nENV A=b\n")

    def label(*words: str) -> str:
        pybuild("build", "-t", "app", *words, context)
        found: str = inspected(pybuild, "app")["config"]["config"]["Labels"]["w"]
        return found

    assert label() == "one"
    publish("two")
    assert label() == "one"
    assert label("--pull") == "two"
    assert label() == "two"
