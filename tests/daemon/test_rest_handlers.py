"""The handlers of Docker's API, which are loaded when they are needed."""

from __future__ import annotations

import asyncio
from importlib import import_module

from pybuild.daemon.rest.handlers import ROUTES, handler_of


def test_each_module_answers_the_routes_that_it_is_said_to() -> None:
    """The table says without loading what the modules say once they are loaded."""
    said: dict[str, str] = {}
    for module in set(ROUTES.values()):
        loaded = import_module(f"pybuild.daemon.rest.{module}")
        tables = [getattr(loaded, name, {}) for name in ("STREAMS", "HANDLERS")]
        said |= {route: module for table in tables for route in table}
    assert said == dict(ROUTES)


def test_what_only_streams_ends_when_nobody_hears_it() -> None:
    async def kinds() -> list[bool]:
        routes = ("GET /events", "POST /containers/{name}/wait", "POST /containers/{name}/stop")
        return [(await handler_of(route))[1] for route in routes]

    assert asyncio.run(kinds()) == [True, True, False]
