"""Deletions at registries that do them, and at those that do not [end-9]."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from pybuild.model.digest import Digest
from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.faults import UnresolvedImage
from pybuild.registry.client.hosts import Hosts
from tests.registry.conftest import client
from tests.webservers import serving


@pytest.mark.parametrize(
    ("status", "by_digest", "fault", "hints"),
    [
        (200, False, None, ()),
        (202, True, None, ()),
        (204, False, None, ()),
        (404, False, UnresolvedImage, ()),
        (
            405,
            False,
            HttpFault,
            ("registries that delete no tags may delete NAME@DIGEST, with all its tags",),
        ),
        (400, True, HttpFault, ("this registry deletes nothing, or nobody has allowed it to",)),
        (403, True, HttpFault, None),
    ],
)
def test_an_answer_to_a_deletion(
    status: int,
    by_digest: bool,
    fault: type[Exception] | None,
    hints: tuple[str, ...] | None,
) -> None:
    requests: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "DELETE":
            requests.append(request.path)
            return web.Response(status=status)
        return web.Response()

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    digest = Digest.of(b"x")

    async def work(host: str) -> None:
        async with client(Hosts({host: {"http": True}})) as c:
            name = Reference(host, "a/b", digest=digest) if by_digest else None
            await c.delete(name or Reference(host, "a/b", tag="t"), refers=False)

    with serving(application) as url:
        host = url.removeprefix("http://")
        if fault is None:
            asyncio.run(work(host))
        else:
            with pytest.raises(fault) as caught:
                asyncio.run(work(host))
            given = getattr(caught.value, "hints", ())
            assert not [one for one in given if "delete" in one] if not hints else given == hints
    assert requests == [f"/v2/a/b/manifests/{digest if by_digest else 't'}"]
