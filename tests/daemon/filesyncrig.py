"""A store that receives directories of a client, for tests of both."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pybuild.cache.store import Store
from pybuild.client.filesync import file_sync
from pybuild.daemon.session.filesync import LocalRequest, LocalSync, Received
from pybuild.daemon.session.sessions import Session
from pybuild.net.grpc.calls import Handler
from tests.daemon.peers import connected
from tests.daemon.trees import describe

CONTEXT = LocalRequest(name="context")


def make_source(root: Path) -> Path:
    """Make a directory with small files, a large one and a link; return it."""
    (root / "src").mkdir(parents=True)
    (root / "Dockerfile").write_bytes(b"FROM scratch\n")
    (root / "src" / "big").write_bytes(os.urandom(2 << 20))
    for number in range(30):
        (root / "src" / f"f{number}").write_bytes(b"%d" % number)
    (root / "link").symlink_to("src/f1")
    return root


class Rig:
    """A store's receiver and a client's session."""

    def __init__(self, store: Store, session: Session) -> None:
        self.store = store
        self.session = session
        self.sync = LocalSync(store, keep_unnamed=True)

    async def fetch(self, request: LocalRequest = CONTEXT) -> Received:
        async with self.sync.fetch(self.session, request) as received:
            return received


@asynccontextmanager
async def rig(
    store: Store, handlers: Mapping[str, Handler], shared_key: str = ""
) -> AsyncGenerator[Rig]:
    async with connected(handlers, shared_key=shared_key) as session:
        made = Rig(store, session)
        try:
            yield made
        finally:
            made.sync.close()


async def arrives(store: Store, source: Path) -> None:
    handlers = file_sync({"context": str(source)})
    async with (
        rig(store, handlers) as made,
        made.sync.fetch(made.session, CONTEXT) as received,
    ):
        assert describe(received.path) == describe(source)
