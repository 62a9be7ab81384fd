"""The handlers of `moby.buildkit.v1.Control` [2]."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.times import rfc3339, timestamp
from pybuild.cache.space.filters import parse_filters
from pybuild.cache.space.prune import Policy
from pybuild.cache.space.prune import prune as free
from pybuild.cache.space.usage import UsageRecord, usage
from pybuild.cache.store import Store
from pybuild.daemon.builds.build import Build
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.control.server import BuildServer
from pybuild.daemon.control.tenant import Tenant
from pybuild.daemon.control.workers import version
from pybuild.daemon.frontend.parsing import parse
from pybuild.model.errors import PybuildError
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError

_SERVICE = "/moby.buildkit.v1.Control/"
_NS = 1_000_000_000


class ControlService:
    """`Control`, on one server."""

    def __init__(self, server: BuildServer) -> None:
        self._server = server

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers by method."""
        return {
            f"{_SERVICE}Solve": unary(self._solve),
            f"{_SERVICE}Status": self._status,
            f"{_SERVICE}Session": self._session,
            f"{_SERVICE}ListWorkers": unary(self._list_workers),
            f"{_SERVICE}Info": unary(self._info),
            f"{_SERVICE}DiskUsage": unary(self._disk_usage),
            f"{_SERVICE}Prune": self._prune,
            f"{_SERVICE}ListenBuildHistory": self._listen_history,
            f"{_SERVICE}UpdateBuildHistory": unary(self._update_history),
        }

    def _tenant(self, call: IncomingCall) -> Tenant[Build]:
        return self._server.tenant(call.peer.owner)

    async def _session(self, call: IncomingCall) -> None:
        await self._tenant(call).sessions.handle(call)

    async def _solve(self, data: bytes, call: IncomingCall) -> bytes:
        request = parse(pb.SolveRequest(), data)
        response = await self._server.solve(
            request, self._tenant(call), call.metadata.get("traceparent") or ""
        )
        return response.SerializeToString()

    async def _status(self, call: IncomingCall) -> None:
        request = parse(pb.StatusRequest(), await call.receive())
        await call.send_headers(_now())
        async with self._tenant(call).journal(request.Ref) as journal:
            async for message in journal.follow():
                await call.send(message)

    async def _list_workers(self, data: bytes, call: IncomingCall) -> bytes:
        parse(pb.ListWorkersRequest(), data)
        record = await self._server.worker()
        return pb.ListWorkersResponse(record=[record]).SerializeToString()

    async def _info(self, data: bytes, call: IncomingCall) -> bytes:
        return pb.InfoResponse(buildkitVersion=version()).SerializeToString()

    # --- disk -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _store(self, call: IncomingCall) -> AsyncGenerator[Store]:
        """Give the store that is the caller's alone, to be looked through and emptied.

        Raises:
            RpcError: it has none, or it cannot be opened.
        """
        async with AsyncExitStack() as stack:
            try:
                of_owner = self._server.workplaces.of(self._tenant(call).owner)
                workplace = await stack.enter_async_context(of_owner)
            except PybuildError as error:
                raise rpc_error(error) from error
            if workplace.guest:
                raise RpcError(
                    Code.PERMISSION_DENIED,
                    "the store is shared with other clients: "
                    "only who runs the server may look into it",
                )
            yield workplace.engine.store

    async def _disk_usage(self, data: bytes, call: IncomingCall) -> bytes:
        request = parse(pb.DiskUsageRequest(), data)
        async with self._store(call) as store:
            return await self._usage_of(store, request)

    async def _usage_of(self, store: Store, request: pb.DiskUsageRequest) -> bytes:
        now = store.clock.now()

        def look() -> list[UsageRecord]:
            texts = [text for text in request.filter if text]
            picks, _ = parse_filters(texts, now, by_others=True)
            # What images are made of is no cache: clients wait for a list that prune can empty.
            return [record for record in usage(store) if not record.pinned and picks(record)]

        try:
            usages = await asyncio.to_thread(look)
        except Exception as error:
            raise rpc_error(error) from error
        if request.ageLimit:
            usages = [r for r in usages if now - r.last_used >= request.ageLimit / _NS]
        records = [_usage(record) for record in usages]
        return pb.DiskUsageResponse(record=records).SerializeToString()

    async def _prune(self, call: IncomingCall) -> None:
        request = parse(pb.PruneRequest(), await call.receive())
        async with self._store(call) as store:
            await self._free(store, request, call)

    async def _free(self, store: Store, request: pb.PruneRequest, call: IncomingCall) -> None:
        policy = Policy(
            filters=tuple(text for text in request.filter if text),
            keep_duration_s=request.keepDuration / _NS or None,
            reserved_space=request.reservedSpace,
            max_used_space=request.maxUsedSpace or None,
            min_free_space=request.minFreeSpace or None,
            all=request.all,
            by_others=True,
        )
        await call.send_headers()
        loop = asyncio.get_running_loop()
        freed: asyncio.Queue[UsageRecord | None] = asyncio.Queue()

        def tell(record: UsageRecord) -> None:
            loop.call_soon_threadsafe(freed.put_nowait, record)

        async def work() -> None:
            try:
                await asyncio.to_thread(free, store, policy, tell)
            finally:
                loop.call_soon(freed.put_nowait, None)

        task = asyncio.create_task(work())
        try:
            while (record := await freed.get()) is not None:
                await call.send(_usage(record).SerializeToString())
            await task
        except Exception as error:
            raise rpc_error(error) from error
        finally:
            await asyncio.gather(task, return_exceptions=True)

    # --- history ----------------------------------------------------------------------------------

    async def _listen_history(self, call: IncomingCall) -> None:
        request = parse(pb.BuildHistoryRequest(), await call.receive())
        await call.send_headers(_now())
        async for event in self._tenant(call).history.listen(request):
            await call.send(event.SerializeToString())

    async def _update_history(self, data: bytes, call: IncomingCall) -> bytes:
        request = parse(pb.UpdateBuildHistoryRequest(), data)
        history = self._tenant(call).history
        if request.Delete:
            is_known = await asyncio.to_thread(history.delete, request.Ref)
        elif request.Finalize:  # nothing is held back here
            is_known = True
        else:
            is_known = await asyncio.to_thread(history.pin, request.Ref, request.Pinned)
        if not is_known:
            raise RpcError(Code.NOT_FOUND, f"no such build {request.Ref}")
        return pb.UpdateBuildHistoryResponse().SerializeToString()


def _now() -> Metadata:
    """The time of our clock, by which clients correct theirs [7.5]."""
    return Metadata({"buildkit-current-timestamp": rfc3339(time.time_ns())})


def _usage(record: UsageRecord) -> pb.UsageRecord:
    return pb.UsageRecord(
        ID=record.id,
        Mutable=record.mutable,
        InUse=record.in_use or record.pinned,
        Size=record.size,
        CreatedAt=timestamp(record.created),
        LastUsedAt=timestamp(record.last_used),
        UsageCount=record.use_count,
        Description=record.description,
        RecordType=record.type,
        Shared=record.shared,
        Parents=record.parents,
    )
