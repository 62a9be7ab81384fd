"""One exchange: a request with all that its handler needs for an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from pybuild.cache.repositories.repositories import Repository
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.registry.server.access import Caller
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.routes import RegistryCall


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request that was understood, of a caller who has the right to it."""

    hosting: Hosting
    call: RegistryCall
    request: web.BaseRequest
    caller: Caller

    @property
    def repository(self) -> Repository:
        return self.hosting.store.repositories[self.call.name]

    @property
    def digest(self) -> Digest:
        """The digest in the path, of those calls that have one."""
        assert self.call.digest is not None  # `understand` has seen to it
        return self.call.digest


Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]
