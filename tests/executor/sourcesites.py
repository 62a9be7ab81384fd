"""A store, workers and remote sources for tests of what comes from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pybuild.cache.store import Store
from pybuild.executor.sources.agents import SshAgent
from pybuild.executor.sources.download import Limits
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.workers.workers import Workers
from pybuild.model.ops import GitSource, HttpSource
from tests.clocks import FakeClock


class SourceSite:
    """The site that one test works on; each of `sources` is one build."""

    def __init__(self, root: Path, store: Store, workers: Workers) -> None:
        self.root = root
        self.store = store
        self.workers = workers
        self.secrets: dict[str, Callable[[], bytes]] = {}
        self.environ: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "HOME": str(root / "home")}

    @asynccontextmanager
    async def sources(
        self, limits: Limits | None = None, ssh: Sequence[SshAgent] = ()
    ) -> AsyncGenerator[RemoteSources]:
        async with RemoteSources(
            self.store,
            self.workers,
            secrets=self.secrets,
            environ=self.environ,
            limits=limits,
            ssh=ssh,
        ) as sources:
            yield sources

    async def tree(self, op: HttpSource | GitSource, **options: Any) -> Path:
        """Return the directory of what *op* gives in a build of its own."""
        async with self.sources(**options) as sources:
            snapshot = await sources.snapshot(op)
        assert len(snapshot.deltas) == 1
        return Path(self.store.deltas.path(snapshot.deltas[0]))

    def leftovers(self) -> list[str]:
        return [
            path.name
            for path in Path(self.store.tmp.path).iterdir()
            if not path.name.startswith("trash.") and not path.name.endswith(".lock")
        ]


def on_site(tmp_path: Path, body: Callable[[SourceSite], Awaitable[None]]) -> None:
    """Run *body* on a fresh site; nothing may be left in tmp/ afterwards."""

    async def main() -> None:
        (tmp_path / "home").mkdir()
        with Store.open(tmp_path / "store", FakeClock()) as store:
            workers = Workers()
            try:
                site = SourceSite(tmp_path, store, workers)
                await body(site)
                assert site.leftovers() == []
            finally:
                await workers.close()

    asyncio.run(main())
