"""The engine seen with somebody else's credentials: all is shared but who asks registries."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from pybuild.engine.baseimages import ImageSourceResolver
from pybuild.engine.engine import Engine
from pybuild.registry.client.credentials import Credentials, NoCredentials


class Guest(Engine):
    """An engine that borrows everything from *host* but its registry client and what that found.

    It counts as a job of the host: what it uses of the store is kept until it is left.

    Args:
        shares: the store has what others brought as well.
        names: the place in the store of the names of images that it knows.
    """

    def __init__(
        self,
        host: Engine,
        credentials: Credentials | None,
        names: str = "",
        *,
        shares: bool = False,
    ) -> None:
        super().__init__(host.settings, host.clock)
        self._credentials: Credentials = credentials or NoCredentials()
        self._hosts = host._hosts
        self._loop = host._loop
        self.workers = host.workers
        self._stack = AsyncExitStack()
        self.store = self._stack.enter_context(host.store.view(names))
        self._stack.enter_context(host.rolling.during())
        self.results = host.results
        self.solver = host.solver
        self.images = ImageSourceResolver(
            self.store, self.client, self.cache_client, is_guest=shares
        )
        self._mountpoint = host.mount_dir()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def credentials(self) -> Credentials:
        """Those of whoever this is for."""
        return self._credentials
