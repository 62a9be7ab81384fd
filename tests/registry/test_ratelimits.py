"""Words of registries about how often they may be asked."""

from __future__ import annotations

import pytest
from aiohttp import web

from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.client import Client
from pybuild.registry.client.hosts import Hosts
from pybuild.registry.client.ratelimits import RateLimit
from tests.registry.conftest import run
from tests.registry.fakes import WallClock
from tests.registry.servers import serve


@pytest.mark.parametrize(
    ("headers", "user", "hint"),
    [
        (
            {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"},
            "",
            (
                "docker.io allows 100 requests in 6 h, 0 are left: "
                "log in to get more, pull through a mirror, or try later"
            ),
        ),
        (
            {"RateLimit-Limit": "200 ; w=90", "RateLimit-Remaining": "3"},
            "mona",
            "docker.io allows 200 requests in 90 s, 3 are left: try later, or pull through a mirror",
        ),
        (
            {"RateLimit-Limit": "lots"},
            "mona",
            "docker.io limits how often it is asked: try later, or pull through a mirror",
        ),
    ],
)
def test_the_hint_says_what_is_left(headers: dict[str, str], user: str, hint: str) -> None:
    assert RateLimit.of(headers).hint("docker.io", user) == hint


def test_a_used_up_quota_is_not_asked_for_again() -> None:
    """Docker Hub says so in its headers; ten tries would only make the user wait."""
    asked: list[str] = []

    async def never(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s")

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.method)
        headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
        body = {"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your limit"}]}
        return web.json_response(body, status=429, headers=headers)

    async def work() -> None:
        async with (
            serve(handler) as host,
            Client(Hosts({host: {"http": True}}), clock=WallClock(), sleep=never) as c,
        ):
            with pytest.raises(HttpFault, match="429") as caught:
                await c.resolve(Reference.parse(f"{host}/library/alpine:3"))
            assert caught.value.hints == (
                f"{host} allows 100 requests in 6 h, 0 are left: try later, or pull through a mirror",
            )

    run(work())
    assert asked == ["HEAD"]
