"""Two clients of a build server: each of `attacks` fails, however they share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator

import pytest

from tests.security import image_attacks, server_attacks, step_attacks
from tests.security.attacks import ATTACKS
from tests.security.tenants import Stage, stage

KINDS = (image_attacks, step_attacks, server_attacks)  # each adds to the attacks on import
pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
STAGES = [
    ("own", "socket", "builtin"),
    ("own", "tls", "client"),
    ("all", "tls", "builtin"),
    ("all", "socket", "client"),
]


@pytest.fixture(scope="module", params=STAGES, ids="-".join)
def server(request: pytest.FixtureRequest) -> Generator[Stage]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with stage(*request.param) as found:
        yield found


@pytest.fixture(scope="module")
def forgetful() -> Generator[Stage]:
    """A server whose clients share nothing, not even with their own builds."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with stage("none", "socket", "builtin") as found:
        yield found


def attempt(server: Stage, name: str) -> None:
    async def run() -> None:
        async with asyncio.timeout(180), server.tenants() as (a, b):
            await ATTACKS[name](server, a, b)

    asyncio.run(run())


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_leaks(server: Stage, name: str) -> None:
    attempt(server, name)


@pytest.mark.parametrize(
    "name",
    [
        *("guess_by_what_is_cached", "equal_tags_stay_apart", "names_after_a_restart"),
        *("cache_mount_shared", "private_base_in_mode_local", "usage_of_somebody_else"),
        *("explanation_all", "poisoned_cache_mount", "prune_of_somebody_elses_cache"),
    ],
)
def test_nothing_leaks_and_nothing_stays(forgetful: Stage, name: str) -> None:
    attempt(forgetful, name)
    left = forgetful.pybuild.store / "owners"
    assert not left.exists() or all(not any(one.glob("snapshots/*")) for one in left.iterdir())
