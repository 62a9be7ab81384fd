"""Places that a build server reaches with credentials of its own are not its clients' to reach through it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Generator

import pytest
from aiohttp import web

from pybuild.buildkit.pb import control as pb
from tests.harness import Pybuild
from tests.security.tenants import Stage, stage
from tests.webservers import serving

pytest.importorskip("aiobotocore")
pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]
OWN = {
    "AWS_ACCESS_KEY_ID": "AKIASERVERSERVER",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-server",
    "AWS_SESSION_TOKEN": "token-of-the-server",
    "AWS_BUCKET": "bucket-of-the-server",
}


class Rich(Pybuild):
    """A server in whose environment there are keys."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **OWN}


@pytest.fixture(scope="module", params=["own", "all", "none"])
def server(request: pytest.FixtureRequest) -> Generator[Stage]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with stage(request.param, "socket", "builtin") as found:
        found.end()
        found.pybuild = Rich(found.pybuild.store, found.pybuild.config)
        found.begin()
        yield found


@pytest.mark.parametrize("way", ["Exports", "Imports", "cache-imports"])
@pytest.mark.parametrize(
    "attrs",
    [
        {"bucket": "bbb"},
        {"access_key_id": "k", "secret_access_key": "s"},
        {"bucket": "bbb", "session_token": "t"},
        {"bucket": "bbb", "access_key_id": "", "secret_access_key": ""},
        {},
    ],
    ids=["bucket", "keys", "session", "empty", "nothing"],
)
def test_no_bucket_is_reached_as_the_server(server: Stage, attrs: dict[str, str], way: str) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(f"{request.method} {request.rel_url} {dict(request.headers)}")
        return web.Response(status=404)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    with serving(application) as url:
        place = {"endpoint_url": url, "use_path_style": "true", "region": "r", **attrs}

        async def run() -> None:
            async with server.tenants() as (a, _):
                options = pb.CacheOptions()
                given: dict[str, str] = {}
                if way == "cache-imports":
                    given[way] = json.dumps([{"Type": "s3", "Attrs": place}])
                else:
                    getattr(options, way).append(pb.CacheOptionsEntry(Type="s3", Attrs=place))
                got = await a.build("FROM base\nRUN echo 1 > /x\n", cache=options, attrs=given)
                assert bool(got.error) == (way == "Exports")
                if got.error:
                    assert "the server's own are not lent" in got.error
                for text in OWN.values():
                    assert text.encode() not in a.seen

        asyncio.run(run())
    assert asked == []


def test_a_bucket_is_reached_with_keys_of_ones_own(server: Stage) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(str(dict(request.headers)))
        return web.Response(status=404)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    with serving(application) as url:
        place = {"endpoint_url": url, "use_path_style": "true", "region": "r", "bucket": "bbb"}
        place |= {"access_key_id": "AKIACLIENT", "secret_access_key": "s"}

        async def run() -> None:
            async with server.tenants() as (a, _):
                entry = pb.CacheOptionsEntry(Type="s3", Attrs={**place, "ignore-error": "true"})
                await a.build(
                    "FROM base\nRUN echo 1 > /x\n", cache=pb.CacheOptions(Exports=[entry])
                )

        asyncio.run(run())
    assert asked and all("AKIACLIENT" in one for one in asked)
    assert not any(text in one for one in asked for text in OWN.values())
