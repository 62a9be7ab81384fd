"""The parts of a server that all its requests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pybuild.cache.content.storekey import make_key
from pybuild.cache.store import Store
from pybuild.registry.client.client import Client
from pybuild.registry.server.metrics import Metrics
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.settings import RegistrySettings
from pybuild.registry.server.shares import Shares
from pybuild.registry.server.spool import Spool
from pybuild.registry.server.upstream import Upstreams

_TURN_S = 20.0


class Hosting:
    """The store, its uploads and transfers, and their limits."""

    def __init__(
        self, store: Store, settings: RegistrySettings, client: Client | None = None
    ) -> None:
        """Begin nothing yet.

        Args:
            client: asks the upstreams; needed where there are any.
        """
        self.store = store
        self.settings = settings
        self.key = make_key(store.root, store.disk, store.tmp)
        self.metrics = Metrics()
        self.upstreams: Upstreams | None = None
        if settings.upstreams and client is not None:
            self.upstreams = Upstreams(store, client, settings.upstreams, self.metrics)
        has_users = bool(settings.htpasswd or settings.issuer)
        self.spool = Spool(store, settings.limits.uploads, is_fair=has_users)
        self._transfers = Shares(settings.limits.transfers, is_fair=has_users)
        self._ended = asyncio.Condition()

    @asynccontextmanager
    async def transfer(self, caller: str) -> AsyncGenerator[None]:
        """Count as one of the bodies that are taken in at once; waits for a moment.

        Args:
            caller: whose it is; who sends many leaves some for the others.

        Raises:
            Refusal: it is not our turn soon.
        """
        try:
            async with asyncio.timeout(_TURN_S), self._ended:
                await self._ended.wait_for(lambda: self._transfers.take(caller))
        except TimeoutError:
            raise Refusal(
                429,
                RefusalCode.TOOMANYREQUESTS,
                f"{self.settings.limits.transfers} uploads are coming in at once",
                {"Retry-After": "5"},
            ) from None
        try:
            yield
        finally:
            self._transfers.give(caller)
            async with self._ended:
                self._ended.notify_all()
