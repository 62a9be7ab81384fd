"""Both event loops for the tests of connections."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.net.http1sites import Run


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs on either loop: commands have uvloop, programs that use us what they like."""
    return asyncio.run if request.param == "asyncio" else uvloop.run
