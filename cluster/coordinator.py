"""A coordinator: an engine whose builds have their steps run by a cluster."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from pybuild.cluster.cluster import Cluster
from pybuild.cluster.runner import ClusterRunner
from pybuild.engine.engine import Engine


@asynccontextmanager
async def clustered(
    engine: Engine, addresses: Sequence[str], tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Cluster]:
    """Have the builds of *engine* run their steps on the workers at *addresses*, within the context."""
    cluster = Cluster(engine, addresses, tls)
    await cluster.open()
    before, engine.runners = engine.runners, partial(ClusterRunner, cluster)
    try:
        yield cluster
    finally:
        engine.runners = before
        await cluster.close()
