"""Caches in Azure's blob store: by Azurite where it is installed, and by a double [CCH-6]."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.azureserver import ACCOUNT, KEY, attrs, azurite, blob_store
from tests.e2e.caches import Machines
from tests.e2e.remotes import Remote
from tests.harness import write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
_MISSING = pytest.mark.skipif(
    not shutil.which("azurite-blob"), reason="needs azurite-blob (npm install -g azurite)"
)


@pytest.fixture(params=["double", pytest.param("azurite", marks=_MISSING)])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "azurite":
        with azurite(tmp_path / "azurite") as url:
            yield url
        return
    with blob_store() as (url, store):
        yield url
        assert store.refused == 0


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def test_a_container_carries_every_step_and_mounts(machines: Machines, account: str) -> None:
    """One flag; the key is that of the environment, and the container is made."""
    url = f"azblob://{ACCOUNT}/caches/app?account_url={account}"
    env = {"AZURE_STORAGE_KEY": KEY}
    first = machines.build(machines.fresh(), "--cache", url, env=env)
    assert len(first.ran) == 6
    assert "warning" not in first.log.lower()
    assert "exporting cache to Azure Blob Storage" in first.log
    again = machines.build(machines.fresh(), "--cache", url, env=env)
    assert (again.ran, again.made) == ([], first.made)
    for command in ("echo one > /c/a", "grep one /c/a"):
        text = f"FROM base\nRUN --mount=type=cache,id=go,target=/c {command}\n"
        write(machines.context, Dockerfile=text)
        machines.build(machines.fresh(), "--cache", url, output="type=cacheonly", env=env)


def test_builds_that_write_to_one_name_at_once_lose_nothing(
    machines: Machines, account: str
) -> None:
    words = ("--cache-to", attrs(account, ",mode=max"), "--cache-from", attrs(account))
    contexts = [
        write(machines.where / f"job-{number}", Dockerfile=f"FROM base\nRUN echo {number} > /out\n")
        for number in range(3)
    ]
    stores = [machines.fresh() for _ in contexts]

    def build(number: int) -> None:
        stores[number]("build", *words, "-o", "type=cacheonly", contexts[number])

    with ThreadPoolExecutor(len(contexts)) as pool:
        list(pool.map(build, range(len(contexts))))
    last = machines.fresh()
    for context in contexts:
        machines.context = context
        assert machines.build(last, *words, output="type=cacheonly").ran == []


def test_layers_of_several_blocks_come_back_whole(machines: Machines, account: str) -> None:
    write(machines.context, Dockerfile="FROM base\nCOPY big /made\n")
    (machines.context / "big").write_bytes(os.urandom(37 << 20))
    to, start = (
        attrs(account, ",mode=max,prefix=a/b,name=x;y"),
        attrs(account, ",prefix=a/b,name=y"),
    )
    machines.build(machines.fresh(), "--cache-to", to, output="type=cacheonly")
    out = machines.where / "image.tar"
    found = machines.build(machines.fresh(), "--cache-from", start, output=f"type=oci,dest={out}")
    assert found.ran == []
    assert out.stat().st_size > 36 << 20


def test_a_server_uses_the_key_of_its_client(
    machines: Machines, account: str, tmp_path: Path
) -> None:
    words = ("--cache-to", attrs(account, ",mode=max"), "--cache-from", attrs(account))
    ran: list[int] = []
    for number in range(2):
        sockets = tmp_path / f"s{number}"
        sockets.mkdir()
        with machines.server(sockets) as server:
            remote = Remote(tmp_path / f"here-{number}", host=server.address)
            ran.append(len(machines.build(remote, *words).ran))
    assert ran == [6, 0]


def test_a_wrong_key_is_an_error_and_with_one_flag_a_warning(machines: Machines) -> None:
    with blob_store() as (url, _):
        wrong = attrs(url, ",mode=max").replace(KEY, "AAAA")
        failed = machines.build(machines.fresh(), "--cache-to", wrong, code=3)
        assert "AuthenticationFailed" in failed.log
        assert "AZURE_STORAGE_KEY" in failed.log
        cache = f"azblob://{ACCOUNT}/caches?account_url={url}"
        built = machines.build(machines.fresh(), "--cache", cache)
        assert "an azblob cache needs the account's key" in built.log
