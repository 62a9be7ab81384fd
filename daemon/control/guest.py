"""The engine seen with somebody else's credentials: all is shared but who asks registries."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from pybuild.engine import Engine
from pybuild.images import ImageSourceResolver
from pybuild.registry.credentials import Credentials, NoCredentials


class Guest(Engine):
    """An engine that borrows everything from *host* but its registry client and what that found.

    It counts as a job of the host: what it uses of the store is kept until it is left.
    """

    def __init__(self, host: Engine, credentials: Credentials | None) -> None:
        super().__init__(host.settings, host.clock)
        self._credentials: Credentials = credentials or NoCredentials()
        self._hosts = host._hosts
        self._loop = host._loop
        self.workers = host.workers
        self._stack = AsyncExitStack()
        self.store = self._stack.enter_context(host.store.view())
        self._stack.enter_context(host.rolling.during())
        self.results = host.results
        self.solver = host.solver
        self.images = ImageSourceResolver(self.store, self.client, self.cache_client)
        self._mountpoint = host.mount_dir()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def credentials(self) -> Credentials:
        """Those of whoever this is for."""
        return self._credentials
