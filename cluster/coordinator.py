"""A coordinator: an engine whose builds have their steps run by a cluster."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from pybuild.cluster.cluster import Cluster
from pybuild.cluster.dispatch import Dispatch
from pybuild.cluster.runner import ClusterRunner
from pybuild.engine.engine import Engine


@asynccontextmanager
async def clustered(
    engine: Engine,
    addresses: Sequence[str],
    tls: ssl.SSLContext | None = None,
    dispatch: Dispatch | None = None,
    count: int = 0,
) -> AsyncGenerator[Cluster]:
    """Have the builds of *engine* run their steps on workers, within the context.

    Args:
        count: so many workers of the scheduler are waited for, though not for ever.
    """
    cluster = Cluster(engine, addresses, tls, dispatch)
    await cluster.open(count)
    before, engine.runners = engine.runners, partial(ClusterRunner, cluster)
    try:
        yield cluster
    finally:
        engine.runners = before
        await cluster.close()
