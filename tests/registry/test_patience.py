"""Registries that a build can do without are not waited for again and again [REG-11, CCH-12]."""

from __future__ import annotations

import pytest
from aiohttp import web

from pybuild.model.reference import Reference
from pybuild.net.http1.faults import HttpFault
from pybuild.net.http1.patience import Patience
from tests.registry.conftest import client, run
from tests.registry.servers import serve


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_a_host_that_fails_for_its_budget_rests_and_is_tried_again() -> None:
    now = Hand()
    patience = Patience(5.0, 60.0, now)
    patience.check("host")
    patience.failed("host", 100.0, "503")
    now.time = 103.0
    patience.check("host")
    assert not patience.is_over("host", 1.9)
    assert patience.is_over("host", 2.0)
    assert not patience.is_over("other", 100.0)
    now.time = 105.0
    patience.failed("host", 104.0, "500 INTERNAL SERVER ERROR")
    with pytest.raises(HttpFault, match="^500 INTERNAL SERVER ERROR: not asked again"):
        patience.check("host")
    now.time = 165.5
    patience.check("host")
    assert not patience.is_over("host")


def test_a_good_answer_makes_up_for_all() -> None:
    now = Hand()
    patience = Patience(5.0, 60.0, now)
    patience.failed("host", 100.0, "503")
    now.time = 104.0
    patience.answered("host")
    patience.failed("host", 104.0, "503")
    now.time = 106.0
    patience.check("host")


@pytest.mark.slow
def test_what_waits_no_more_still_serves_who_does() -> None:
    """The impatient client shares connections with the one that images are pulled with."""
    asked: list[str] = []
    now = Hand()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        now.time += 6.0
        return web.Response(status=503)

    async def work() -> None:
        async with serve(answer) as host, client() as patient:
            impatient = patient.impatient(Patience(5.0, 1000.0, now))
            reference = Reference.parse(f"{host}/cache:1")
            for _ in range(10):
                with pytest.raises(HttpFault, match="503"):
                    await impatient.resolve(reference)
            assert len(asked) == 1
            with pytest.raises(HttpFault, match="503"):
                await patient.resolve(reference)
            assert len(asked) > 2

    run(work())
