"""The handler of each route, loaded when somebody first asks for one: a daemon is there before what it may do is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybuild.daemon.rest.exchange import Handler

_OF_SWARMS = ("nodes", "services", "tasks", "secrets", "configs")
_BY_MODULE: Mapping[str, tuple[str, ...]] = {
    "archives": (
        "HEAD /containers/{name}/archive",
        "GET /containers/{name}/archive",
        "PUT /containers/{name}/archive",
        "GET /containers/{name}/export",
        "GET /containers/{name}/changes",
    ),
    "buildcache": ("POST /build/prune",),
    "building": ("POST /build", "POST /build/cancel"),
    "committing": ("POST /commit",),
    "containers": (
        "POST /containers/create",
        "GET /containers/json",
        "GET /containers/{name}/json",
        "POST /containers/{name}/start",
        "POST /containers/{name}/stop",
        "POST /containers/{name}/restart",
        "POST /containers/{name}/kill",
        "POST /containers/{name}/pause",
        "POST /containers/{name}/unpause",
        "POST /containers/{name}/rename",
        "POST /containers/{name}/update",
        "DELETE /containers/{name}",
    ),
    "events": ("GET /events",),
    "images": ("GET /images/json", "GET /images/{name}/json"),
    "imagework": (
        "GET /images/{name}/history",
        "POST /images/{name}/tag",
        "DELETE /images/{name}",
        "POST /images/prune",
    ),
    "logs": ("GET /containers/{name}/logs",),
    "networks": (
        "GET /networks",
        "GET /networks/",
        "POST /networks/create",
        "POST /networks/prune",
        "GET /networks/{name}",
        "DELETE /networks/{name}",
        "POST /networks/{name}/connect",
        "POST /networks/{name}/disconnect",
    ),
    "processes": (
        "POST /containers/{name}/exec",
        "POST /exec/{name}/start",
        "POST /exec/{name}/resize",
        "GET /exec/{name}/json",
    ),
    "registryqueries": ("GET /images/search", "GET /distribution/{name}/json", "POST /auth"),
    "streams": (
        "POST /containers/{name}/attach",
        "GET /containers/{name}/attach/ws",
        "POST /containers/{name}/resize",
    ),
    "system": (
        "GET /_ping",
        "HEAD /_ping",
        "GET /version",
        "GET /info",
        "GET /plugins",
        "GET /swarm",
        *(f"GET /{name}" for name in _OF_SWARMS),
        *(f"GET /{name}/{{name}}" for name in _OF_SWARMS),
        *(f"POST /{name}/create" for name in _OF_SWARMS),
        *(f"DELETE /{name}/{{name}}" for name in _OF_SWARMS),
        *(f"POST /swarm/{word}" for word in ("init", "join", "leave", "update")),
        "GET /containers/{name}/checkpoints",
        "POST /containers/{name}/checkpoints",
    ),
    "transfers": (
        "POST /images/create",
        "POST /images/{name}/push",
        "POST /images/load",
        "GET /images/get",
        "GET /images/{name}/get",
    ),
    "upgrades": ("POST /grpc", "POST /session"),
    "volumes": (
        "GET /volumes",
        "POST /volumes/create",
        "POST /volumes/prune",
        "GET /volumes/{name}",
        "PUT /volumes/{name}",
        "DELETE /volumes/{name}",
    ),
    "waits": ("POST /containers/{name}/wait",),
    "watching": (
        "GET /containers/{name}/stats",
        "GET /containers/{name}/top",
        "POST /containers/prune",
        "GET /system/df",
    ),
}
ROUTES: Mapping[str, str] = {
    route: module for module, routes in _BY_MODULE.items() for route in routes
}
"""The module below `daemon.rest` of each route."""


async def handler_of(route: str) -> tuple[Handler, bool]:
    """Return the handler of a route, and whether its work ends when nobody hears it.

    What others have begun goes on without the client.
    """
    name = f"{__package__}.{ROUTES[route]}"
    module = sys.modules.get(name)
    if module is None or _is_loading(module):
        module = await asyncio.to_thread(import_module, name)  # others are answered meanwhile
    streams: Mapping[str, Handler] = getattr(module, "STREAMS", {})
    if route in streams:
        return streams[route], True
    handler: Handler = module.HANDLERS[route]
    return handler, False


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))
