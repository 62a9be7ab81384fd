"""Caches in GitHub's Actions cache, by a server that speaks its protocols [CCH-4]."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.caches import Machines
from tests.e2e.remotes import Remote
from tests.ghaserver import ActionsCache, actions_cache, job_token
from tests.harness import write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
FEATURE, MAIN = "refs/heads/feature", "refs/heads/main"
TOKEN = job_token((FEATURE, 3), (MAIN, 1))
MAIN_TOKEN = job_token((MAIN, 3))


@pytest.fixture
def service() -> Iterator[ActionsCache]:
    with actions_cache() as running:
        running.tokens |= {TOKEN, MAIN_TOKEN}
        yield running


@pytest.fixture
def machines(tmp_path: Path, base_store: Path) -> Machines:
    return Machines(tmp_path, base_store)


def job(service: ActionsCache, token: str = TOKEN, *, second: bool = True) -> dict[str, str]:
    """Return the variables of a job's steps."""
    if second:
        return {
            "ACTIONS_RUNTIME_TOKEN": token,
            "ACTIONS_RESULTS_URL": f"{service.url}/",
            "ACTIONS_CACHE_SERVICE_V2": "true",
        }
    return {"ACTIONS_RUNTIME_TOKEN": token, "ACTIONS_CACHE_URL": f"{service.url}/"}


@pytest.mark.parametrize("second", [True, False], ids=["v2", "v1"])
@pytest.mark.parametrize(
    "words",
    [
        ("--cache", "gha://app"),
        ("--cache-to", "type=gha,mode=max,scope=app", "--cache-from", "type=gha,scope=app"),
    ],
    ids=["one-flag", "attributes"],
)
def test_a_job_starts_from_what_the_one_before_it_made(
    machines: Machines, service: ActionsCache, words: tuple[str, ...], second: bool
) -> None:
    env = job(service, second=second)
    first = machines.build(machines.fresh(), *words, env=env)
    assert len(first.ran) == 6
    assert "exporting cache to GitHub Actions Cache" in first.log
    written = service.keys()
    again = machines.build(machines.fresh(), *words, env=env)
    assert (again.ran, again.made) == ([], first.made)
    assert [key for key in written if key.startswith("buildkit-blob-1-sha256:")]
    assert service.keys() == written
    assert TOKEN not in first.log + again.log


def test_a_branch_starts_from_what_main_made_and_keeps_its_own(
    machines: Machines, service: ActionsCache
) -> None:
    first = machines.build(machines.fresh(), "--cache", "gha://", env=job(service, MAIN_TOKEN))
    found = machines.build(machines.fresh(), "--cache", "gha://", env=job(service))
    assert (found.ran, found.made) == ([], first.made)
    write(machines.context, source="changed\n")
    changed = machines.build(machines.fresh(), "--cache", "gha://", env=job(service))
    assert len(changed.ran) == 5
    assert not any("random/uuid > /tool" in name for name in changed.ran)
    again = machines.build(machines.fresh(), "--cache", "gha://", env=job(service))
    assert (again.ran, again.made) == ([], changed.made)


def test_jobs_that_write_at_once_lose_nothing(machines: Machines, service: ActionsCache) -> None:
    contexts = [
        write(machines.where / f"job-{number}", Dockerfile=f"FROM base\nRUN echo {number} > /out\n")
        for number in range(3)
    ]
    stores = [machines.fresh() for _ in contexts]

    def build(number: int) -> None:
        words = ("build", "--cache", "gha://", "-o", "type=cacheonly", contexts[number])
        stores[number](*words, env=job(service))

    with ThreadPoolExecutor(len(contexts)) as pool:
        list(pool.map(build, range(len(contexts))))
    last = machines.fresh()
    for context in contexts:
        machines.context = context
        words = ("--cache", "gha://")
        assert machines.build(last, *words, output="type=cacheonly", env=job(service)).ran == []


def test_a_server_uses_the_cache_with_the_job_of_its_client(
    machines: Machines, service: ActionsCache, tmp_path: Path
) -> None:
    words = ("--cache-to", "type=gha,mode=max", "--cache-from", "type=gha")
    ran: list[int] = []
    for number in range(2):
        sockets = tmp_path / f"s{number}"
        sockets.mkdir()
        with machines.server(sockets) as server:
            remote = Remote(tmp_path / f"here-{number}", host=server.address)
            ran.append(len(machines.build(remote, *words, env=job(service)).ran))
    assert ran == [6, 0]


def test_where_no_job_runs_a_build_does_without(machines: Machines) -> None:
    """As buildx: a definition made for CI works at home."""
    words = ("--cache-to", "type=gha,mode=max", "--cache-from", "type=gha")
    built = machines.build(machines.fresh(), *words)
    assert len(built.ran) == 6
    assert "no such job runs" in built.log


@pytest.mark.parametrize(
    ("token", "refuse", "why"),
    [
        (TOKEN, [(429, "3600")] * 50, "too much"),
        (TOKEN, [(500, "0")] * 500, "too much"),
        (job_token((FEATURE, 3)), [], "no such token"),
        (job_token((FEATURE, 3), expires=5), [], "has expired"),
        (job_token((FEATURE, 1)), [], "may not write"),
    ],
    ids=["429", "500", "401", "expired", "of-a-fork"],
)
def test_a_service_that_is_no_help_fails_no_build(
    machines: Machines,
    service: ActionsCache,
    token: str,
    refuse: list[tuple[int, str]],
    why: str,
) -> None:
    """[CCH-12]"""
    service.refuse += refuse
    built = machines.build(machines.fresh(), "--cache", "gha://", env=job(service, token))
    assert len(built.ran) == 6
    assert why in built.log
    assert token not in built.log


def test_a_layer_that_is_not_what_it_says_is_made_again(
    machines: Machines, service: ActionsCache
) -> None:
    machines.build(machines.fresh(), "--cache", "gha://", env=job(service))
    for entry in service.entries:
        if entry.key.startswith("buildkit-blob"):
            entry.data = bytes(len(entry.data))
    built = machines.build(machines.fresh(), "--cache", "gha://", env=job(service))
    assert built.made and built.ran
