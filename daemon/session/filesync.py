"""Fetches directories of clients [CTX-2]: into a kept copy, so that only changes move."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TypeVar
from urllib.parse import quote_plus

from pybuild.buildkit.fsutil.metadata import MetadataWriter
from pybuild.buildkit.fsutil.packet import encode_error
from pybuild.buildkit.fsutil.receiver import BadEntry, PeerFailed, Receiver, shown
from pybuild.buildkit.fsutil.writer import TreeWriter
from pybuild.buildkit.session.failures import failed
from pybuild.buildkit.session.inflow import Inflow
from pybuild.cache.disk.trees import Stopped
from pybuild.cache.store import Store
from pybuild.daemon.session.sessions import Session
from pybuild.executor.trees.local import index_file
from pybuild.executor.trees.receivedcopies import Copies, CopyOrigin, KeptCopy, forget
from pybuild.executor.trees.statindex import StatIndex
from pybuild.executor.workers.bounded import bounded
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.patterns import PatternMatcher
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError
from pybuild.net.tasks import finish_in

T = TypeVar("T")

METHOD = "/moby.filesync.v1.FileSync/DiffCopy"
_THREADS = 16
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Nobody else writes to a copy: its files are never too young for their times to tell a change.
_END_OF_TIME = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRequest:
    """A request for a client's directory.

    Attributes:
        name: as the client knows it: "context", "dockerfile", ...
        follow: paths with the targets of links; nothing means everything.
        hint: keeps copies apart that serve different ends, such as reading ignore files.
        keep: whether to keep the copy for the next build; small reads need none.
        compare: take files of equal times and sizes for unchanged.
        contents: only these patterns' files, beside a list of all; None: all of them.
    """

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    hint: str = ""
    keep: bool = True
    compare: bool = True
    contents: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A client's directory, here.

    Attributes:
        path: of a directory that holds exactly the client's tree.
        transferred: bytes of files that had to move. files: files that had to.
        moved: bytes of all that was sent, the entries too.
        entries: in the tree.
        foreign: entries that do not belong to root.
        short: files that were not as long as announced: unreadable for the client, or changing.
    """

    path: str
    transferred: int
    moved: int
    files: int
    entries: int
    foreign: int = 0
    short: tuple[str, ...] = ()


class LocalSync:
    """Fetches directories into a store; for one event loop.

    Args:
        keep_unnamed: keep copies also of directories that their clients give no shared key; what
            another client sent may differ in what no entry tells, so less counts as unchanged
            then (`TreeWriter`, strict).
    """

    def __init__(self, store: Store, *, keep_unnamed: bool = False) -> None:
        self._store = store
        self._keeps_unnamed = keep_unnamed
        self._copies = Copies(store)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="local")

    @asynccontextmanager
    async def fetch(
        self,
        session: Session,
        request: LocalRequest,
        on_progress: Callable[[int], None] = lambda received: None,
    ) -> AsyncGenerator[Received]:
        """Fetch a directory; it is ours, and does not change, until the context is left.

        Args:
            on_progress: called with the bytes `moved` so far, now and then.

        Raises:
            UserError: the client refuses, fails, or sends what must not be.
            EnvironmentFault: the store cannot be written, or is at its ceiling. Cancelled: the client has gone.
        """
        copies: list[KeptCopy] = []  # filled in the thread, so that none is lost to a cancellation
        scratch = ""
        try:
            with self._faults(request):
                if request.keep and (session.shared_key or self._keeps_unnamed):
                    origin = _origin(session, request)
                    await self._run(lambda: copies.append(self._copies.take(origin)))
                    path = copies[0].path
                else:
                    scratch = path = self._store.scratch("local")
                    await self._run(partial(os.mkdir, path, 0o755))
                try:
                    async with bounded(self._store.budget, path):
                        received = await self._transfer(session, request, path, on_progress)
                    for copy in copies:
                        await self._run(copy.received)
                except (OSError, EnvironmentFault) as error:
                    if not isinstance(error, OSError) or error.errno in _FULL:
                        for copy in copies:
                            await self._run(copy.give_up)
                        if scratch:
                            await self._run(partial(forget, self._store, scratch))
                            scratch = ""
                        # Not in the background: the client's next try is to find the room.
                        await self._run(self._empty)
                    raise
            yield received
        finally:
            for copy in copies:
                await self._run(copy.close)
            if scratch:
                await self._run(partial(forget, self._store, scratch))

    @contextmanager
    def _faults(self, request: LocalRequest) -> Generator[None]:
        try:
            yield
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EnvironmentFault(f"cannot keep {request.name} of the client: {reason}") from error

    def _empty(self) -> None:
        with suppress(Stopped, OSError):
            self._store.tmp.sweep()

    async def _run(self, work: Callable[[], T]) -> T:
        return await finish_in(self._pool, work)

    async def _transfer(
        self,
        session: Session,
        request: LocalRequest,
        path: str,
        on_progress: Callable[[int], None],
    ) -> Received:
        doing = f"read {request.name} of the client"
        index = await self._run(partial(self._index, path)) if request.keep else None
        writer = TreeWriter(
            path, strict=not session.shared_key, fresh=not request.compare, index=index
        )
        sink = _sink(writer, path, request)
        try:
            receiver, moved = Receiver(sink), 0
            async with (
                session.stream(METHOD, metadata=_metadata(request)) as call,
                Inflow(call) as inflow,
            ):
                while not receiver.finished:
                    messages = await inflow.take()
                    if not messages:
                        raise UserError(f"{doing}: it ended too early")
                    try:
                        answers = await self._run(partial(receiver.feed, messages))
                    except (BadEntry, OSError) as error:
                        await call.send(encode_error(str(error)))
                        raise
                    if answers:
                        await call.send(*answers)
                    moved += sum(map(len, messages))
                    on_progress(moved)
                await call.half_close()
                if await inflow.take():
                    raise BadEntry("a packet after the last one")
            await self._run(sink.finish)
            if index is not None:
                await self._run(index.save)
        except RpcError as error:
            raise failed(doing, error) from error
        except BadEntry as error:
            raise UserError(f"{doing}: it sends {error}") from error
        except PeerFailed as error:
            raise UserError(f"{doing}: {error}") from error
        finally:
            await self._run(writer.close)
        return Received(
            path=path,
            transferred=receiver.received,
            moved=moved,
            files=receiver.requested,
            entries=receiver.entries,
            foreign=writer.foreign,
            short=tuple(shown(path) for path in receiver.short),
        )

    def _index(self, path: str) -> StatIndex:
        file = index_file(os.path.join(self._store.root, "statindex"), path)
        return StatIndex(file, lambda: _END_OF_TIME)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _sink(writer: TreeWriter, path: str, request: LocalRequest) -> TreeWriter | MetadataWriter:
    if request.contents is None:
        return writer
    try:
        return MetadataWriter(writer, path, PatternMatcher(request.contents))
    except ValueError as error:
        raise UserError(f"read {request.name} of the client: {error}") from error


def _origin(session: Session, request: LocalRequest) -> CopyOrigin:
    info = session.info
    return CopyOrigin(
        owner=info.owner,
        shared_key=info.shared_key,
        name=request.name,
        hint=request.hint if request.contents is None else f"{request.hint}:metadata",
        patterns=(sorted(request.include), list(request.exclude), sorted(request.follow)),
    )


def _metadata(request: LocalRequest) -> Metadata:
    metadata = Metadata()
    for name, values in (
        ("dir-name", (request.name,)),
        ("include-patterns", request.include),
        ("exclude-patterns", request.exclude),
        ("followpaths", request.follow),
    ):
        add_encoded(metadata, name, values)
    return metadata


def add_encoded(metadata: Metadata, name: str, values: Sequence[str]) -> None:
    """Add the values of a key, all of them escaped if one of them has to be."""
    plain = all(
        value.isascii() and value.isprintable() and value == value.strip() for value in values
    )
    for value in values:
        metadata.add(name, value if plain else quote_plus(os.fsencode(value)))
    if not plain:
        metadata.add(name + "-encoded", "1")
