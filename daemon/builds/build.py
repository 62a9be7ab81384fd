"""One `Solve` of a client, from its first word to the end of its exports [3]."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pybuild.buildkit.gatewayconfig import gateway_config, lowered_from
from pybuild.buildkit.journal import Journal, Teller
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb.errors import SolveDetail
from pybuild.buildkit.pb.ops import Definition, SourceInfo
from pybuild.buildkit.pb.sourcepolicy import Policy
from pybuild.buildkit.policies import read_policies
from pybuild.buildkit.trace import Trace
from pybuild.builds.attestations import Attestor
from pybuild.builds.delivery import Delivery, Solves, keep_store, solve_and_deliver
from pybuild.builds.lookups import Lookups
from pybuild.builds.provenance import LookupLedger, Outcome
from pybuild.builds.recording import error_facts
from pybuild.daemon.builds.attestations import client_lists
from pybuild.daemon.builds.caches import exports_of, imports_of
from pybuild.daemon.builds.failedfiles import failed_files
from pybuild.daemon.builds.failedsteps import FailedSteps
from pybuild.daemon.builds.frontends import Frontends
from pybuild.daemon.builds.outputs import (
    SessionSink,
    finished_outputs,
    frontend_facts,
    given_configs,
    outputs_of,
    outputs_of_session,
    response_of,
)
from pybuild.daemon.builds.platformcheck import platform_warning
from pybuild.daemon.builds.record import begin_record
from pybuild.daemon.builds.runningfrontend import RunningFrontend
from pybuild.daemon.builds.scope import Scope
from pybuild.daemon.control.accounts import BuildAccount
from pybuild.daemon.control.failures import rpc_error
from pybuild.daemon.frontend.attrs import read_attestations
from pybuild.daemon.frontend.dockerfile import define
from pybuild.daemon.frontend.lazytree import LazyTree
from pybuild.daemon.frontend.results import CONFIG, Result
from pybuild.daemon.frontend.sourcemeta import source_meta
from pybuild.daemon.session.exporters import finalize_export
from pybuild.daemon.session.verdicts import MOST_REQUESTS, MOST_SOURCES, SessionVerdicts
from pybuild.engine.host import native_platform
from pybuild.explain.account import Account, MissRefused
from pybuild.explain.text import refusal
from pybuild.exporter.attest.frontendrequest import FrontendRequest
from pybuild.exporter.attest.options import Provenance
from pybuild.exporter.built import Built
from pybuild.exporter.output import Output
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError, StepError, unwrap
from pybuild.model.events import BuildWarning, Event
from pybuild.model.ops import ScratchSource, Vertex
from pybuild.model.policy import Policies
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.status import Code, RpcError
from pybuild.remotecache.export import manifest_entry

if TYPE_CHECKING:
    from pybuild.daemon.builds.trees import FindSession
    from pybuild.daemon.control.accounts import Accounts
    from pybuild.daemon.control.settings import ServerSettings
    from pybuild.daemon.control.tenant import Tenant
    from pybuild.daemon.control.workplaces import Workplace
    from pybuild.engine.engine import Engine
    from pybuild.explain.report import BuildReport
    from pybuild.remotecache.session import CacheSession

NO_MISS = "pybuild.fail-on-miss"  # of our own clients: let nothing run
_READY_S = 10.0


class BuildHost(Protocol):
    """The server of a build, as far as the build knows it."""

    engine: Engine
    settings: ServerSettings
    accounts: Accounts

    async def gateway(self, frontend: RunningFrontend) -> tuple[Mapping[str, Handler], str]:
        """Return the gateway service for *frontend*, and this server as it is told of it, in JSON."""
        ...

    def grant(self, entitlements: Iterable[str]) -> frozenset[str]:
        """Return the entitlements of a build.

        Raises:
            UserError: one that the server does not let clients have.
        """
        ...


class Build:
    """A build under way.

    Attributes:
        frontends: those that requests may name; *client*: the client's own, if it has one.
        producers: of the owner's definitions.
        owner: whose it is, as `Peer` names it.
        workplace: the engine that it runs on.
        ledger: requests and lookups, for provenance; *provenance*: documents for the history, by tree.
        images: those of image exporters, by their place among the exporters.
        files, infos: whole files that errors may name lines of, and what else clients say of them.
        account, trace: the reasons and the times of its steps, for later questions; *record*: all that
            the store's history keeps of it, None where it keeps nothing.
        ready: set when the gateway service may work for it, or never will.
    """

    def __init__(
        self,
        server: BuildHost,
        request: pb.SolveRequest,
        tenant: Tenant[Build],
        workplace: Workplace,
        traceparent: str = "",
    ) -> None:
        self.ref = request.Ref
        self.owner = tenant.owner
        self.request = request
        self._server = server
        self._tenant = tenant
        self.workplace = workplace
        self.journal = Journal.temporary(tenant.logs)
        self.teller = Teller(self.journal, server.engine.clock)
        self.producers = tenant.producers
        self.frontends = Frontends(self)
        self.files: dict[str, bytes] = {}
        self.infos: dict[str, SourceInfo] = {}
        self.ledger = LookupLedger(
            FrontendRequest(
                frontend=request.Frontend,
                args=dict(request.FrontendAttrs),
                inputs=self.producers.of_inputs(request.FrontendInputs),
            ),
            server.engine.clock.now(),
            server.settings.machine,
        )
        self.provenance: dict[str, bytes] = {}
        self.images: dict[int, Descriptor] = {}
        refuse = request.FrontendAttrs.get(NO_MISS) == "true"
        self.account = BuildAccount(steps=Account(refuse=refuse), started=server.engine.clock.now())
        self.record = begin_record(request, workplace, self.account.started)
        self.trace = Trace(request.Ref, server.engine.clock.now(), traceparent)
        self.ready = asyncio.Event()
        self.client = RunningFrontend(self, request.FrontendInputs, self.ledger.lookups)
        self._scope: Scope | None = None
        self._failed = FailedSteps(lambda: self.frontends.references.values())

    @property
    def frontend(self) -> str:
        """The client's name of the frontend; empty for its own."""
        return self.request.Frontend

    @property
    def _is_proxied(self) -> bool:
        """Whether its steps reach nothing but a proxy of ours."""
        return self.request.ProxyNetwork or self._server.settings.proxy_network

    @property
    def _has_frontend(self) -> bool:
        """Whether the server makes the result, and not the client by the gateway service."""
        return bool(self.request.Frontend) or self.request.HasField("Definition")

    @property
    def offered(self) -> dict[str, LazyTree]:
        """The trees of steps that failed, by the ids that errors have named."""
        return self._failed.offered

    @property
    def session(self) -> str:
        """The id of the client's session."""
        return self.request.Session

    @property
    def is_driven(self) -> bool:
        """Whether the client makes the result: it may hand in again what it gets."""
        return not self.request.Frontend

    def error(self, error: Exception) -> RpcError:
        """Return *error* as the client reads it, with where it happened."""
        cause = unwrap(error)
        step: SolveDetail | None = None
        if isinstance(cause, PybuildError):
            solve = None if self._scope is None else self._scope.snapshot
            step = self._failed.detail(cause, solve)
        vertex = cause.vertex if isinstance(cause, StepError) else ""
        failed = vertex or self.teller.failed
        return rpc_error(error, self.frontend, self.files, failed, self.infos, step)

    async def wait_ready(self) -> None:
        """Wait until the gateway service may work for the build.

        Raises:
            RpcError: it never may.
        """
        try:
            async with asyncio.timeout(_READY_S):
                await self.ready.wait()
        except TimeoutError:
            raise RpcError(Code.NOT_FOUND, f"no such job {self.ref}") from None
        if self._scope is None:
            raise RpcError(Code.NOT_FOUND, f"no such job {self.ref}")

    @property
    def scope(self) -> Scope:
        if self._scope is None:
            raise RpcError(Code.UNAVAILABLE, "the build has ended")
        return self._scope

    async def run(self) -> dict[str, str]:
        """Do all of it, and return the exporters' response.

        Raises:
            RpcError: it failed; with the details that clients look for.
        """
        request = self.request
        try:
            allow = self._server.grant(request.Entitlements)
            find = self._tenant.sessions.get
            session = await find(request.Session) if request.Session else None
            async with Scope(
                self.workplace,
                session,
                find=find,
                allow=allow,
                cgroup=self._tenant.cgroup,
                emit=self._emit,
                thread=self._tenant.thread,
                noted=self._note_secret,
                proxied=self._is_proxied,
            ) as scope:
                if not self._has_frontend:
                    scope.runner.keep_failed(self._failed.add)
                self._failed.define = partial(define, scope)
                self._failed.places = scope.actions
                scope.policies = await self._policies(scope, find)
                self._scope = scope
                scope.files, scope.infos = self.files, self.infos
                try:
                    async with failed_files(scope, request):
                        facts = await self._run(scope)
                finally:
                    self.ready.clear()
                    self._scope = None
                    self.account.targets = [
                        one.vertex for one in self.frontends.references.values()
                    ]
                    self.account.trees = dict(scope.trees.seen)
                    self.account.imports = scope.imports.caches
                    await self.client.close()
                    await self._failed.close()
                    for reference in self.frontends.references.values():
                        await reference.close()
            if not self.workplace.passes:
                await keep_store(self.workplace.engine)
            self._explain(None)
            return facts
        except Exception as error:
            cause = unwrap(error)
            explained = self._explain(cause)
            if isinstance(cause, MissRefused) and (report := await explained) is not None:
                # It waits for the reason, as nothing else does.
                error = cause.saying(cause.message + refusal(report))
            raise self.error(error) from error
        except asyncio.CancelledError:
            if self.record is not None:
                self.record.end("canceled")
            raise
        finally:
            self.ready.set()  # who waits to work for it need not wait longer
            self.producers.forget(self.ref)

    def release(self) -> None:
        """Let go of what the client has sent, which no collector of garbage knows to be large."""
        self.frontends.release()
        self.client = RunningFrontend(self, {}, Lookups())
        self.files.clear()
        self.infos.clear()
        self.request = pb.SolveRequest()

    def _emit(self, event: Event) -> None:
        self.account.steps.watch(event)
        self.trace.watch(event)
        self.teller.emit(event)
        if self.record is not None:
            self.record.emit(event)

    def _note_secret(self, value: bytes) -> None:
        if self.record is not None:
            self.record.log.add_secrets([value.decode("utf-8", "surrogateescape")])

    def _explain(self, error: BaseException | None) -> asyncio.Task[BuildReport | None]:
        """Begin to find out why steps ran, and to keep all of it; requests for reports wait for it."""
        record = self.record
        if record is not None and error is None:
            record.facts["images"] = [str(image.digest) for image in self.images.values()]
        elif record is not None and error is not None:
            record.facts["error"] = error_facts(error, record.log.without_secrets)
        return self._server.accounts.keep(
            self._tenant, self.workplace, self.ref, self.account, record
        )

    async def _policies(self, scope: Scope, find: FindSession) -> Policies | None:
        request = self.request
        above: Policies | None = None
        if request.SourcePolicySession:
            # Steps may ask for far more than a definition names.
            most = MOST_REQUESTS if self._is_proxied else MOST_SOURCES
            verdicts = SessionVerdicts(await find(request.SourcePolicySession), most)
            scope.afterwards_await(verdicts.close)
            scope.decide = partial(verdicts.decide, look_up=partial(source_meta, scope))
            above = Policies(judge=verdicts)
        rules = [request.SourcePolicy] if request.HasField("SourcePolicy") else []
        return read_policies(rules, above)

    async def _run(self, scope: Scope) -> dict[str, str]:
        request = self.request
        attestations = read_attestations(dict(request.FrontendAttrs))
        outputs = outputs_of(request)
        result = Result()
        more: list[Output] = []

        async def caches() -> CacheSession:
            cache_session = await exports_of(scope, request.Cache)
            scope.carry(cache_session)
            scope.runner.carry_mounts(scope.imports.mounts)
            await scope.imports.add(imports_of(request.Cache))
            return cache_session

        async def results(solves: Solves) -> list[Built]:
            nonlocal result
            scope.solves = solves
            result = await self._result()
            self._warn(platform_warning(request.FrontendAttrs.get("platform", ""), result))
            result = replace(result, metadata={**result.metadata, **given_configs(request)})
            more[:] = await outputs_of_session(request, scope.session, result)
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._built(result, key, reference))
                    for key, reference in result.each()
                ]
            return [one for task in tasks if (one := task.result()) is not None]

        async def attest(built: Sequence[Built], solves: Solves) -> list[Built]:
            ignore_cache = request.FrontendAttrs.get("no-cache") == ""
            lists = client_lists(scope, result, attestations.sbom, ignore_cache=ignore_cache)
            attestor = self._attestor(scope, result)
            return await attestor.attest(built, attestations.provenance, lists)

        delivered = await solve_and_deliver(
            scope.engine,
            Delivery(outputs=outputs, tags=(), sink=partial(SessionSink, scope), origin=None),
            caches=caches,
            results=results,
            attest=attest,
            missed=self.account.steps.missed,
            emit=scope.emit,
            finish=lambda outputs: finished_outputs([*outputs, *more], result.metadata),
            more=request.EnableSessionExporter,
        )
        self.images = {
            number: one.made.descriptor
            for number, one in enumerate(delivered.exported)
            if one.made is not None
        }
        facts = response_of(delivered.exported) | frontend_facts(result.metadata)
        facts |= manifest_entry(delivered.cache)
        if request.EnableSessionExporter and scope.session is not None:
            await finalize_export(scope.session, facts)
        if not request.Internal:
            builder = attestations.provenance.builder_id if attestations.provenance else ""
            documents = await self._attestor(scope, result).documents(
                delivered.built, Provenance(full=True, builder_id=builder)
            )
            self.provenance = {
                key: json.dumps(document, indent=2, ensure_ascii=False).encode()
                for key, document in documents.items()
            }
        return facts

    def _warn(self, message: str) -> None:
        """Warn of the result as a whole, if there is a *message*."""
        if message:
            vertex = Digest.of(f"result:{self.ref}".encode())
            self.teller.warn(BuildWarning(message=message), vertex, "", b"")

    def _attestor(self, scope: Scope, result: Result) -> Attestor:
        ids = {key: tree.id for key, tree in result.each() if tree is not None}
        outcome = Outcome(ids=ids, platforms=result.platforms())
        return Attestor(scope.engine, scope, scope.solves, self.ledger, outcome)

    async def _result(self) -> Result:
        """Return the result of the frontend that the request names, or of the client's own."""
        request = self.request
        if self._has_frontend:  # an empty definition is the empty tree
            return await self.solve(
                request.Frontend,
                dict(request.FrontendAttrs),
                request.Definition,
                dict(request.FrontendInputs),
            )
        self.ready.set()
        return await self.client.returned

    async def solve(
        self,
        frontend: str,
        opts: Mapping[str, str],
        definition: Definition | None,
        inputs: Mapping[str, Definition],
        policies: Iterable[Policy] = (),
        *,
        depth: int = 0,
    ) -> Result:
        """Run a frontend, or take a definition as it is; as `Frontends.solve`."""
        return await self.frontends.solve(frontend, opts, definition, inputs, policies, depth)

    async def gateway(self, frontend: RunningFrontend) -> tuple[Mapping[str, Handler], str]:
        """Return the gateway service for *frontend*, and this server as it is told of it, in JSON."""
        self.scope.runner.keep_failed(self._failed.add)
        return await self._server.gateway(frontend)

    def hold(self, size: int) -> None:
        """Let *size* bytes count for the build.

        Raises:
            RpcError: the owner's builds hold too much.
        """
        self._tenant.hold(self.ref, size)

    def add_producer(self, definition: Definition, document: dict[str, Any]) -> None:
        """Note the request that made *definition*, which the client may hand in again."""
        self.producers.add(definition, self.ref, document)

    def borrow_secrets(self, definitions: Iterable[Definition]) -> None:
        """Find the secrets of the steps in *definitions* where these were made, or where their makers do [MNT-18]."""
        for ref in self.producers.builds(definitions):
            maker = self._tenant.find(ref)
            if maker is not None and maker._scope is not None:
                self.scope.borrow_secrets(maker._scope)

    async def _built(self, result: Result, key: str, reference: LazyTree | None) -> Built | None:
        """Return a tree with the config that it goes out with."""
        platforms = dict(result.platforms())
        platform = platforms.get(key) or next(iter(platforms.values()), native_platform())
        config = result.metadata.get(f"{CONFIG}/{key}" if key else CONFIG)
        if reference is None:
            if config is None and not self.request.Exporters:
                return None
            reference = LazyTree(Vertex(ScratchSource()), self.scope.snapshot)
        snapshot = await reference.snapshot()
        exported = bool(self.request.Exporters) or self.request.EnableSessionExporter
        known = self.frontends.lowered.get(reference.id)
        if known is None or gateway_config(known) != config:
            known = lowered_from(
                reference.vertex,
                result.config(key, exported=exported),
                platform,
                base=result.base_config(key),
                layers=len(snapshot.deltas),
                epoch=result.epoch(key),
            )
        return Built(
            lowered=known, result=snapshot, is_one_of_many=result.many is not None, key=key
        )
