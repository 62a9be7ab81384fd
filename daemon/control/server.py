"""All builds of one server, and their shared parts: the engine, sessions, history."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.rpcstatus import Status
from pybuild.buildkit.pb.times import seconds_of, timestamp
from pybuild.buildkit.pb.worker import WorkerRecord
from pybuild.buildkit.trace import TRACE_TYPE
from pybuild.daemon.builds.build import Build
from pybuild.daemon.builds.runningfrontend import RunningFrontend
from pybuild.daemon.control.accounts import Accounts
from pybuild.daemon.control.bridge import BUILD_ID, BridgeService
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.control.health import health
from pybuild.daemon.control.history import ERROR_TYPE, STATUS_TYPE, History
from pybuild.daemon.control.settings import ServerSettings
from pybuild.daemon.control.tenant import Tenant
from pybuild.daemon.control.workers import worker, worker_json
from pybuild.daemon.control.workplaces import Workplace, Workplaces
from pybuild.engine.host import native_platform
from pybuild.engine.limits import policies
from pybuild.executor.devices import list_devices
from pybuild.executor.runnable import runnable
from pybuild.exporter.attest.predicate import PREDICATE_V1
from pybuild.frontend.giturl import without_credentials
from pybuild.image.attestation import PAYLOAD_TYPE, PREDICATE_TYPE
from pybuild.model.errors import PybuildError, UserError
from pybuild.net.grpc.calls import Handler, IncomingCall
from pybuild.net.grpc.status import Code, RpcError

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine

_log = logging.getLogger(__name__)
_MOST_REF = 256  # it is remembered when the build has ended


def _imports(request: pb.SolveRequest) -> bool:
    cache_imports = request.Cache.Imports or request.Cache.ImportRefsDeprecated
    return bool(cache_imports) or any(
        request.FrontendAttrs.get(name) for name in ("cache-imports", "cache-from")
    )


class BuildServer:
    """Serves one engine to any number of clients."""

    def __init__(self, engine: Engine, settings: ServerSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.workplaces = Workplaces(engine, settings.share, settings.clients)
        self.accounts = Accounts(self.tenant, self.workplaces)
        self._tenants: dict[str, Tenant[Build]] = {}
        self._closing = False

    def tenant(self, owner: str) -> Tenant[Build]:
        """Return the tenant of an owner, as `Peer` names it.

        Raises:
            RpcError: the call came in a way that has no owner, or too late.
        """
        known = self._tenants.get(owner)
        if known is None:
            if not owner:
                raise RpcError(Code.UNAUTHENTICATED, "nobody is known to ask here")
            if self._closing:
                raise RpcError(Code.UNAVAILABLE, "the server is shutting down")
            known = self._tenants[owner] = Tenant[Build](owner, self.engine.store.root)
        return known

    def grant(self, entitlements: Iterable[str]) -> frozenset[str]:
        """Return the entitlements of a build; of devices those alone that the configuration opens.

        Raises:
            UserError: one that the server does not let clients have.
        """
        ours = self.settings.entitlements
        devices = {item for item in entitlements if item.partition("=")[0] == "device"}
        others = frozenset(entitlements) - devices
        for name in sorted(others - ours):
            raise UserError(
                f"granting entitlement {name} is not allowed by build daemon configuration"
            )
        return others | (devices if "device" in ours else devices & ours)

    async def frontend(self, call: IncomingCall) -> RunningFrontend:
        """Return the client's own frontend that makes *call*, once the build is ready for it.

        Raises:
            RpcError: there is no such build, or it never is.
        """
        ref = call.metadata.get(BUILD_ID)
        if not ref:
            raise RpcError(Code.INVALID_ARGUMENT, "no buildid found in context")
        build = await self.tenant(call.peer.owner).build(ref)
        await build.wait_ready()
        return build.client

    async def gateway(self, frontend: RunningFrontend) -> tuple[Mapping[str, Handler], str]:
        """Return the gateway service for *frontend*, and this server as it is told of it, in JSON."""

        async def find(_: IncomingCall) -> RunningFrontend:
            return frontend

        service = BridgeService(find, self.worker)
        return {**service.handlers(), **health()}, worker_json(await self.worker())

    # --- builds -----------------------------------------------------------------------------------

    async def solve(
        self, request: pb.SolveRequest, tenant: Tenant[Build], traceparent: str = ""
    ) -> pb.SolveResponse:
        """Run one build to its end.

        Args:
            tenant: whose it is; nobody else may drive it, or hear of it.
            traceparent: the span of the client's own trace that the build is part of.

        Raises:
            RpcError: it failed.
        """
        if not 0 < len(request.Ref) <= _MOST_REF:
            raise RpcError(
                Code.INVALID_ARGUMENT, f"a build needs a Ref, of at most {_MOST_REF} characters"
            )
        with tenant.turn(request.Ref):
            tenant.hold(request.Ref, request.ByteSize())
            try:
                async with self.workplaces.lent(tenant.owner, imports=_imports(request)) as place:
                    try:
                        return await self._solve(request, tenant, place, traceparent)
                    finally:
                        if place.passes:
                            await self.accounts.settled()
            except PybuildError as error:
                raise rpc_error(error) from error

    async def _solve(
        self,
        request: pb.SolveRequest,
        tenant: Tenant[Build],
        workplace: Workplace,
        traceparent: str,
    ) -> pb.SolveResponse:
        build = Build(self, request, tenant, workplace, traceparent)
        tenant.add(build)
        history = tenant.history
        record = pb.BuildHistoryRecord(
            Ref=request.Ref,
            Frontend=request.Frontend,
            FrontendAttrs={  # it stays for long
                name: without_credentials(value) for name, value in request.FrontendAttrs.items()
            },
            Exporters=list(request.Exporters),
            CreatedAt=timestamp(self.engine.clock.now()),
            Generation=1,
        )
        if not request.Internal:
            history.begin(record)
        try:
            response = await build.run()
            record.ExporterResponse.update(response)
            return pb.SolveResponse(ExporterResponse=response)
        except RpcError as error:
            record.error.CopyFrom(Status(code=error.code, message=error.message))
            if error.details and not request.Internal:
                with suppress(OSError):
                    blob = history.add_blob(error.details, ERROR_TYPE)
                    record.externalError.CopyFrom(blob)
            raise
        except asyncio.CancelledError:
            record.error.CopyFrom(Status(code=Code.CANCELLED, message="context canceled"))
            raise
        finally:
            build.journal.close()
            try:
                if not request.Internal:
                    await self._remember(record, build, history)
            except OSError as error:  # a full disk makes no failure of what was built
                _log.warning("no history of build %s: %s", request.Ref, error)
                history.drop(record)
            finally:  # who asks for its progress finds it here until it is in the history
                tenant.remove(build)
                build.journal.discard()
                build.release()

    async def _remember(
        self, record: pb.BuildHistoryRecord, build: Build, history: History
    ) -> None:
        record.CompletedAt.CopyFrom(timestamp(self.engine.clock.now()))
        teller = build.teller
        record.numTotalSteps, record.numCompletedSteps = teller.total, teller.completed
        record.numCachedSteps, record.numWarnings = teller.cached, teller.warnings
        for key, document in build.provenance.items():
            blob = await asyncio.to_thread(history.add_blob, document, PAYLOAD_TYPE)
            blob.annotations[PREDICATE_TYPE] = PREDICATE_V1
            built = record.Results[key] if key else record.Result
            built.Attestations.append(blob)
        await self._remember_images(record, build, history)
        error = record.error.message if record.HasField("error") else ""
        spans = build.trace.document(seconds_of(record.CompletedAt), error)
        trace = await asyncio.to_thread(history.add_blob, spans, TRACE_TYPE)
        record.trace.CopyFrom(trace)
        pieces = build.journal.pieces()
        logs = await asyncio.to_thread(history.add_pieces, pieces, STATUS_TYPE)
        record.logs.CopyFrom(logs)
        await asyncio.to_thread(history.end, record)

    async def _remember_images(
        self, record: pb.BuildHistoryRecord, build: Build, history: History
    ) -> None:
        blob_path = build.workplace.engine.store.blobs.path
        for number, image in build.images.items():
            try:
                kept = await asyncio.to_thread(history.add_image, image, blob_path)
            except PybuildError as error:  # the client has its image, or will hear of that
                _log.warning("no image in the history of build %s: %s", build.ref, error)
                continue
            record.Result.Results[number].CopyFrom(kept)
            if not record.Result.HasField("ResultDeprecated"):  # for clients that know of one only
                record.Result.ResultDeprecated.CopyFrom(kept)

    async def close(self) -> None:
        """End all sessions; builds have ended before."""
        self._closing = True
        for tenant in self._tenants.values():
            await tenant.sessions.close()
        await self.accounts.settled()
        await self.workplaces.close()

    # --- about us ---------------------------------------------------------------------------------

    async def worker(self) -> WorkerRecord:
        identity = hashlib.sha256(self.engine.store.root.encode()).hexdigest()[:25]
        isolation = await self.engine.workers.isolation()
        limits = self.engine.settings.limits
        rules = policies(self.engine.store, limits) if limits.enabled else []
        platforms = runnable(native_platform())
        given = self.engine.settings.devices
        listed = await asyncio.to_thread(
            list_devices, given.granted(frozenset()), given.directories
        )
        return worker(identity, isolation, self.settings.labels, platforms, rules, listed)
