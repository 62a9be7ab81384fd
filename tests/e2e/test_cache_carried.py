"""Results are carried away while the build goes on: nothing but the running steps is lost [CCH]."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.e2e.caches import Machines, manifest
from tests.e2e.remotes import Remote
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.registry.server.processes import process
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]

UUID = "cat /proc/sys/kernel/random/uuid"
CHAIN = f"""\
FROM base
RUN {UUID} > /one
RUN {UUID} > /two
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with start_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def ref(registry: RegistryProcess, request: pytest.FixtureRequest) -> str:
    """A name of this test alone."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    return f"{registry.host}/carried/{digest}:1"


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


@pytest.fixture(params=["registry", "directory"])
def place(request: pytest.FixtureRequest, ref: str, tmp_path: Path) -> str:
    return ref if request.param == "registry" else str(tmp_path / "cache")


def test_a_build_that_fails_keeps_what_it_made(machines: Machines, place: str) -> None:
    write(machines.context, Dockerfile=f"{CHAIN}RUN false\n")
    failed = machines.build(machines.fresh(), "--cache", place, code=1)
    assert "exporting cache" in failed.log
    write(machines.context, Dockerfile=f"{CHAIN}RUN true\n")
    found = machines.build(machines.fresh(), "--cache", place, output="type=cacheonly")
    assert found.ran == ["RUN true"]


def test_a_build_that_fails_does_not_wait_for_a_place_that_is_gone(machines: Machines) -> None:
    """It was tried while the build went on; the first try and its repetitions were enough."""
    write(machines.context, Dockerfile=f"{CHAIN}RUN sleep 10; false\n")
    failed = machines.build(machines.fresh(), "--cache", "127.0.0.1:1/a/b:c", code=1)
    assert "the cache was not exported: pull 127.0.0.1:1/a/b" in failed.log
    assert "exporting cache" not in failed.log


def test_a_server_carries_what_a_build_that_fails_has_made(
    machines: Machines, ref: str, tmp_path: Path
) -> None:
    """The server exports it as the command line does: both have one engine."""
    write(machines.context, Dockerfile=f"{CHAIN}RUN false\n")
    (tmp_path / "sockets").mkdir()
    with machines.server(tmp_path / "sockets") as server:
        remote = Remote(tmp_path / "here", host=server.address)
        machines.build(remote, "--cache", ref, code=1)
    write(machines.context, Dockerfile=f"{CHAIN}RUN true\n")
    found = machines.build(machines.fresh(), "--cache", ref, output="type=cacheonly")
    assert found.ran == ["RUN true"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_ended_keeps_what_it_made(
    machines: Machines, registry: RegistryProcess, place: str, tmp_path: Path, how: signal.Signals
) -> None:
    """Each layer is sent when its step ends, and named soon after."""
    write(machines.context, Dockerfile=f"{CHAIN}RUN sleep 60\n")
    _end_when_named(machines.fresh(), machines.context, place, registry, tmp_path / "log", how)
    write(machines.context, Dockerfile=f"{CHAIN}RUN true\n")
    found = machines.build(machines.fresh(), "--cache", place, output="type=cacheonly")
    assert found.ran == ["RUN true"]


def test_what_this_machine_had_before_is_carried_while_the_build_goes_on(
    machines: Machines, registry: RegistryProcess, place: str, tmp_path: Path
) -> None:
    """Such steps are announced at once, and others have them a moment later."""
    write(machines.context, Dockerfile=CHAIN)
    machine = machines.fresh()
    machines.build(machine, output="type=cacheonly")
    write(machines.context, Dockerfile=f"{CHAIN}RUN sleep 60\n")
    log = tmp_path / "log"
    _end_when_named(machine, machines.context, place, registry, log, signal.SIGKILL)
    assert log.read_text().count("CACHED") == 3  # the base image, too
    write(machines.context, Dockerfile=f"{CHAIN}RUN true\n")
    found = machines.build(machines.fresh(), "--cache", place, output="type=cacheonly")
    assert found.ran == ["RUN true"]


def _end_when_named(
    machine: Pybuild,
    context: Path,
    place: str,
    registry: RegistryProcess,
    log: Path,
    how: signal.Signals,
) -> None:
    """Build, and end that when the base image's layer and those of two steps are at *place*."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            machine.command("build", "--progress=plain", "--cache", place, context),
            env=machine.environment,
            stdout=out,
            stderr=out,
        )
        try:
            _wait_until(lambda: _layers_at(place, registry) == 3, log)
        finally:
            process.send_signal(how)
            process.wait(60)


def _wait_until(is_so: Callable[[], bool], log: Path) -> None:
    for _ in range(1200):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail(log.read_text())


def _layers_at(place: str, registry: RegistryProcess) -> int:
    """The number of layers that are named there, the base image's among them."""
    try:
        if not place.startswith("/"):
            return len(manifest(registry, place)["layers"])
        index = json.loads((Path(place) / "index.json").read_text())
        blob = Path(place) / "blobs/sha256" / index["manifests"][0]["digest"].partition(":")[2]
        return len(json.loads(blob.read_text())["layers"])
    except (FileNotFoundError, HTTPError):
        return 0


def test_builds_that_write_to_one_place_at_once_lose_nothing(
    machines: Machines, place: str
) -> None:
    """Each adds its own to what is there: a matrix of jobs shares one cache."""
    jobs = 4
    contexts = [
        write(
            machines.where / f"job-{number}",
            Dockerfile=f"FROM base\nRUN echo {number}; {UUID} > /out\nRUN sleep 0.{number}\n",
        )
        for number in range(jobs)
    ]
    stores = [machines.fresh() for _ in range(jobs)]

    def build(number: int) -> None:
        done = stores[number]("build", "--cache", place, "-o", "type=cacheonly", contexts[number])
        assert "warning" not in done.err.lower()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(build, range(jobs)))
    last = machines.fresh()
    for context in contexts:
        machines.context = context
        found = machines.build(last, "--cache", place, output="type=cacheonly")
        assert found.ran == []


def test_what_is_not_used_for_long_goes(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """``max-age`` and ``max-size`` bound what others left; this build's own always stays."""
    to = f"type=registry,ref={ref},mode=max"
    layers: list[int] = []
    for number, bound in enumerate(["", "", ",max-size=1b", ",merge=false"]):
        write(machines.context, Dockerfile=f"FROM base\nRUN echo {number} > /out\n")
        machines.build(machines.fresh(), "--cache-to", to + bound, output="type=cacheonly")
        layers.append(len(manifest(registry, ref)["layers"]))
    assert layers == [2, 3, 2, 2], "the base image's, which no registry has, and one a build"


def test_a_branch_starts_from_the_one_that_it_came_from(
    machines: Machines, registry: RegistryProcess, ref: str
) -> None:
    """One flag: a name without a tag has a cache for each branch, and looks into the default's."""
    url = ref.rpartition(":")[0]
    git = machines.context / ".git"
    (git / "refs/remotes/origin").mkdir(parents=True)
    (git / "refs/remotes/origin/HEAD").write_text("ref: refs/remotes/origin/trunk\n")
    (git / "HEAD").write_text("ref: refs/heads/trunk\n")
    write(machines.context, Dockerfile=f"{CHAIN}RUN echo trunk\n")
    machines.build(machines.fresh(), "--cache", url, output="type=cacheonly")
    trunk = manifest(registry, f"{url}:trunk")
    (git / "HEAD").write_text("ref: refs/heads/feature/x\n")
    write(machines.context, Dockerfile=f"{CHAIN}RUN echo feature\n")
    found = machines.build(machines.fresh(), "--cache", url, output="type=cacheonly")
    assert found.ran == ["RUN echo feature"]
    assert "warning" not in found.log.lower()
    assert manifest(registry, f"{url}:trunk") == trunk
    found = machines.build(machines.fresh(), "--cache", url, output="type=cacheonly")
    assert found.ran == []


def test_what_was_named_on_the_way_is_deleted_where_that_is_allowed(
    machines: Machines, tmp_path: Path
) -> None:
    """A build names its results many times; a registry keeps all that it was ever given."""
    write(machines.context, Dockerfile=f"{CHAIN}RUN sleep 2; {UUID} > /three\n")
    with process(tmp_path / "served") as served:
        place = f"{served.host}/a/b"
        machines.build(machines.fresh(), "--cache", f"{place}:x", output="type=cacheonly")
        machines.build(machines.fresh(), "--cache", f"{place}:y", output="type=cacheonly")
        kept = list((tmp_path / "served/registry/repositories").rglob("manifests/*"))
        found = machines.build(machines.fresh(), "--cache", f"{place}:x", output="type=cacheonly")
        assert found.ran == []
    assert len(kept) == 2, kept
