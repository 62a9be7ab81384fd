"""All that belongs to one owner on a server: sessions, builds under way, history.

Whoever holds a tenant finds nothing of another's by any id: it is not there to be found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, Protocol, TypeVar

from pybuild.buildkit.journal import Journal, LogRoom
from pybuild.daemon.builds.onethread import OneThread
from pybuild.daemon.builds.producers import Producers
from pybuild.daemon.control.history import History
from pybuild.daemon.control.workplaces import folder_of, place_of
from pybuild.daemon.session.sessions import Sessions
from pybuild.executor.zygote.hierarchies import PREFIX
from pybuild.net.grpc.status import Code, RpcError

WAIT_S = 6.0
MOST_BUILDS = 200
MOST_HELD_BYTES = 256 << 20
"""Of definitions and the like that the builds under way of one owner have brought, as they came."""


class Running(Protocol):
    """A build under way, as far as its tenant looks at it."""

    ref: str
    journal: Journal


B = TypeVar("B", bound=Running)


class Tenant(Generic[B]):
    """One owner on one server.

    Attributes:
        place: the folder, below those of the store, of what is kept for it; empty for the
            server's own user, who has what this machine's command line left there, too.
        cgroup: below the server's own, which no step of the owner leaves.
        producers: who made the definitions that it hands in.
        reports: the names of the reports about its last builds, by their refs.
        thread: computes what its definitions are.
        logs: where the progress of its builds under way counts.
    """

    def __init__(self, owner: str, root: str) -> None:
        self.owner = owner
        place = place_of(owner)
        self.place = f"owners/{place}" if place else ""
        self.cgroup = f"{PREFIX}of-{folder_of(owner)}"
        self.sessions = Sessions(owner)
        self.history = History(root, self.place)
        self.producers = Producers()
        self.reports: dict[str, str] = {}
        self.thread = OneThread()
        self.logs = LogRoom()
        self._builds: dict[str, B] = {}
        self._held: dict[str, int] = {}
        self._arrived = asyncio.Event()

    @contextmanager
    def turn(self, ref: str) -> Generator[None]:
        """Count as a build under way.

        Raises:
            RpcError: there is a build *ref*, or there are too many.
        """
        if ref in self._held:
            raise RpcError(Code.UNKNOWN, f"job ID {ref} exists")
        if len(self._held) >= MOST_BUILDS:
            raise RpcError(Code.RESOURCE_EXHAUSTED, f"{MOST_BUILDS} builds are under way already")
        self._held[ref] = 0
        try:
            yield
        finally:
            del self._held[ref]

    def hold(self, ref: str, size: int) -> None:
        """Count bytes that a client has sent and that are kept until its build ends.

        Raises:
            RpcError: its builds have sent too many.
        """
        if sum(self._held.values()) + size > MOST_HELD_BYTES:
            most = f"{MOST_HELD_BYTES >> 20} MiB"
            raise RpcError(
                Code.RESOURCE_EXHAUSTED,
                f"the definitions of builds under way take more than {most}",
            )
        if ref in self._held:
            self._held[ref] += size

    def add(self, build: B) -> None:
        """A build begins; who waits for it hears of it."""
        self._builds[build.ref] = build
        self._tell_arrived()

    def remove(self, build: B) -> None:
        """A build has ended, and is in the history if it will be."""
        del self._builds[build.ref]
        self._tell_arrived()

    def find(self, ref: str) -> B | None:
        """Return a build under way that is here already."""
        return self._builds.get(ref)

    async def build(self, ref: str) -> B:
        """Return a build; clients ask for it before its `Solve` has come [3.1].

        Raises:
            RpcError: none comes.
        """
        try:
            async with asyncio.timeout(WAIT_S):
                while ref not in self._builds:
                    arrived = self._arrived
                    ended = await asyncio.to_thread(self.history.get, ref)
                    if ended is not None and ref not in self._builds:
                        raise _no_such(ref)
                    if ref not in self._builds:
                        await arrived.wait()
        except TimeoutError:
            raise _no_such(ref) from None
        return self._builds[ref]

    @asynccontextmanager
    async def journal(self, ref: str) -> AsyncGenerator[Journal]:
        """Give the progress of a build for the block, also of one that has ended.

        Raises:
            RpcError: there is none.
        """
        stored: Journal | None = None
        try:
            async with asyncio.timeout(WAIT_S):
                while stored is None and ref not in self._builds:
                    arrived = self._arrived
                    stored = await asyncio.to_thread(self._stored, ref)
                    if stored is None and ref not in self._builds:
                        await arrived.wait()
        except TimeoutError:
            raise _no_such(ref) from None
        if stored is None:
            yield self._builds[ref].journal
            return
        try:
            yield stored
        finally:
            stored.discard()

    def _stored(self, ref: str) -> Journal | None:
        record = self.history.get(ref)
        path = self.history.blob_path(record.logs.digest) if record is not None else None
        return None if path is None else Journal.stored(path)

    def _tell_arrived(self) -> None:
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()


def _no_such(ref: str) -> RpcError:
    return RpcError(Code.NOT_FOUND, f"no such job {ref}")
