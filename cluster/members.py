"""The members of a cluster, as a coordinator is given them: addresses, a scheduler, or both."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from pybuild.cluster.certificates import Certificates
from pybuild.cluster.cluster import Cluster
from pybuild.cluster.coordinator import clustered
from pybuild.cluster.dispatch import Dispatch
from pybuild.engine.engine import Engine
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UsageError

SCHEDULER = "pybuild.cluster.dask.scheduler"


def has_engine() -> bool:
    """Return whether the extra is installed that claims need."""
    return importlib.util.find_spec("distributed") is not None


def require_engine() -> None:
    """Raise where the extra is missing."""
    if not has_engine():
        raise UsageError(
            "a scheduler needs Dask, which is not installed",
            hints=["pip install 'pybuild-oci[cluster]'"],
        )


def host_and_port(address: str) -> str:
    """Return the host and port of a TCP address. Raises ValueError."""
    scheme, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if scheme != "tcp" or not host or not (port.isdecimal() and int(port) < 1 << 16):
        raise ValueError(address)
    return place


@dataclass(frozen=True, slots=True)
class Members:
    """The workers of a cluster.

    Attributes:
        addresses: of workers that are in no scheduler's books.
        certificates: ours, for workers.
        scheduler: its address, as the engine has it; empty: there is none, and steps begin unclaimed.
        claims: ours for the scheduler, where that has another authority.
        count: so many are waited for, though not for ever.
    """

    addresses: Sequence[str]
    certificates: Certificates
    scheduler: str = ""
    claims: Certificates | None = None
    count: int = 0

    @asynccontextmanager
    async def clustered(self, engine: Engine) -> AsyncGenerator[Cluster]:
        """Have the builds of *engine* run their steps on them, within the context."""
        dispatch = None
        if self.scheduler:
            own = self.claims or self.certificates
            dispatch = Dispatch(self.scheduler, own.words())
        tls = self.certificates.client()
        async with clustered(engine, self.addresses, tls, dispatch, self.count) as cluster:
            yield cluster
