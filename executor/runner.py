"""Makes vertices happen for one build: the solver's `Runner`, offered without knowing the solver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from pybuild.cache.store import Store
from pybuild.executor import network, steps
from pybuild.executor.cachemounts import CacheMounts, Seed
from pybuild.executor.contentdigests import ContentDigests
from pybuild.executor.contextcopies import ContextCopies
from pybuild.executor.contexttrees import ContextTrees
from pybuild.executor.devices import DeviceEdits, find_devices
from pybuild.executor.fetch import Fetcher
from pybuild.executor.fileops import FileOps
from pybuild.executor.kepttrees import KeptTrees
from pybuild.executor.layers import Layers
from pybuild.executor.localtrees import GivenTrees, LocalTrees, TellProgress
from pybuild.executor.outputs import Outputs, SharedStep, kept_mounts, result_mount, step_key
from pybuild.executor.rung import Rung
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.step import StepMount
from pybuild.executor.workers import Workers
from pybuild.executor.zygote.usernet import NAME_SERVER
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, PybuildError, UserError
from pybuild.model.events import Emit, Event, LogStream, VertexLog, VertexProgress
from pybuild.model.ops import (
    Copy,
    DiffOp,
    ExecOp,
    FileOp,
    GitSource,
    HttpSource,
    ImageSource,
    LocalSource,
    MergeOp,
    Mount,
    MountType,
    NetworkMode,
    OciLayoutSource,
    ScratchSource,
    SecurityMode,
    Vertex,
)
from pybuild.model.selection import ContentDigest, Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot


def _quiet(_event: Event) -> None:
    """Take events that belong to no vertex."""


class BuildRunner:
    """Runs the vertices of one build. An async context manager: results are leased until its end.

    Args:
        fetcher: brings blobs of pulled layers.
        locals: the client's directories by the name of their local source, or who brings them.
        secrets: by id, how to read the value; called when a step wants it, in a thread.
        dns: overrides of the host's resolver settings.
        allow: entitlements, ``network.host`` and ``security.insecure``.
        isolated_network: steps that ask for no other network get one of their own.
        cgroup: which those that steps name may not leave; empty for whoever may name any.
        sources: what comes from elsewhere, closed by its owner; the runner's own by default.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        *,
        fetcher: Fetcher,
        locals: Mapping[str, LocalTree] | LocalTrees,
        secrets: steps.Secrets | None = None,
        dns: network.DnsSettings | None = None,
        allow: frozenset[str] = frozenset(),
        isolated_network: bool = False,
        cgroup: str = "",
        sources: RemoteSources | None = None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._locals = GivenTrees(locals) if isinstance(locals, Mapping) else locals
        self._secrets: steps.Secrets = {} if secrets is None else secrets
        self._dns = dns
        self._allow = allow
        self._isolated = isolated_network
        self._cgroup = cgroup
        self._lease = store.leases.create()
        self._owns_sources = sources is None
        self._sources = sources or RemoteSources(store, workers, secrets=self._secrets)
        self.layers = Layers(store, workers, fetcher, self._lease)
        self._digests = ContentDigests(store, self._call, self._ensure_quietly)
        self._contexts = ContextTrees(store)
        self._rung = Rung(store, workers)
        self._files = FileOps(store, self._contexts, self._lease, self._call, self._rung.can_patch)
        self._copies = ContextCopies(store, self._contexts, self._files, self._lease, self.ensure)
        self._caches = CacheMounts(store, workers, self._lease)
        self._shared: dict[Digest, SharedStep] = {}
        self._resolvers: dict[NetworkMode, str] = {}
        self._trees = KeptTrees(store)
        self._told_rung = False
        self._common = ""
        self._covered = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            self._workers.rest()
            self._trees.close()
            if self._common:
                self._store.discard(self._common)
            await self._digests.close()
            covered, self._covered = self._covered, ""
            if covered:
                os.rmdir(covered)
            await self._contexts.close()
            if self._owns_sources:
                await self._sources.close()
        finally:
            self._lease.close()

    # --- what the solver asks ---------------------------------------------------------------------

    async def identify(self, vertex: Vertex) -> Digest | None:
        """Return what a source stands for; None for those that have content-based keys alone."""
        match vertex.op:
            case ImageSource(digest=digest) | OciLayoutSource(digest=digest):
                return digest
            case HttpSource() | GitSource() as op:
                return await self._sources.identify(op)
            case _:
                return None

    async def content_digest(self, result: Result, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks from *result*.

        Raises:
            UserError: a path without wildcard is not there [CP-4].
        """
        if isinstance(result, LocalTree):
            return await self._contexts.digest(result, selection)
        return await self._digests.digest(result, selection)

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        """Do the vertex's op on its inputs' results and return a committed result, leased.

        Raises:
            StepError: a process failed; UserError; EnvironmentFault.
        """
        try:
            result = await self._run(vertex, inputs, emit)
        except PybuildError as error:
            raise error.with_spans(vertex.meta.spans) from error.__cause__
        if isinstance(vertex.op, ExecOp | FileOp) and isinstance(result, Snapshot):
            self._digests.made(result)
        return result

    async def _run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        match vertex.op:
            case ScratchSource():
                return Snapshot()
            case ImageSource(digest=digest) | OciLayoutSource(digest=digest):
                return await asyncio.to_thread(self.layers.of_image, digest)
            case HttpSource() | GitSource() as op:
                return await self._remote(vertex, op, emit)
            case LocalSource() as op:
                return await self._locals.tree(op, self._progress(vertex, emit))
            case FileOp() as op:
                return await self._file(vertex, op, inputs, emit)
            case ExecOp() as op:
                return await self._exec(vertex, op, inputs, emit)
            case MergeOp():
                snapshots = [await self.snapshot(result) for result in inputs]
                return Snapshot(tuple(d for snapshot in snapshots for d in snapshot.deltas))
            case DiffOp():
                return await self._diff(inputs)

    async def _remote(self, vertex: Vertex, op: HttpSource | GitSource, emit: Emit) -> Snapshot:
        told = self._progress(vertex, emit)
        found = await self._sources.snapshot(op, lambda now, all: told("fetching", now, all, False))
        await asyncio.to_thread(self._lease.add_all, [("delta", name) for name in found.deltas])
        return found

    def _progress(self, vertex: Vertex, emit: Emit) -> TellProgress:
        def tell(id: str, current: int, total: int, done: bool) -> None:
            time = self._store.clock.now()
            emit(
                VertexProgress(
                    vertex=vertex.digest, id=id, current=current, total=total, done=done, time=time
                )
            )

        return tell

    async def snapshot(self, result: Result) -> Snapshot:
        """Return *result* as a snapshot; a local tree is copied into the store for that."""
        if isinstance(result, Snapshot):
            return result
        snapshot, _ = await self._copies.snapshot(result)
        return snapshot

    async def ensure(self, snapshot: Snapshot, emit: Emit = _quiet) -> list[str]:
        """Return the directories of the snapshot's deltas, base first; layers are unpacked."""
        return await self.layers.ensure(snapshot.deltas, emit)

    async def _call(self, function: str, args: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Call a worker function that wants an empty directory to mount on, and cleans up there.

        Each worker sees its own mounts alone, so all of them have the same directory.
        """
        if not self._covered:
            covered = self._store.scratch("mounts")
            os.mkdir(covered, 0o700)
            self._covered = covered
        return await self._workers.call(function, {**args, "mount_dir": self._covered}, **options)

    async def _ensure_quietly(self, deltas: Sequence[str]) -> list[str]:
        return await self.layers.ensure(deltas, _quiet)

    # --- file ops ---------------------------------------------------------------------------------

    async def _file(
        self, vertex: Vertex, op: FileOp, inputs: Sequence[Result], emit: Emit
    ) -> Snapshot:
        base = await self.snapshot(_input(vertex, inputs, 0))
        sources = {
            action.input: _input(vertex, inputs, action.input)
            for action in op.actions
            if isinstance(action, Copy)
        }

        def on_progress(update: dict[str, Any]) -> None:
            emit(
                VertexProgress(
                    vertex=vertex.digest,
                    id="copying",
                    current=update["copied_bytes"],
                    time=self._store.clock.now(),
                )
            )

        return await self._files.run(
            op,
            base,
            sources,
            lambda snapshot: self.ensure(snapshot, emit),
            on_progress,
            is_scratch=isinstance(vertex.inputs[0].op, ScratchSource),
        )

    # --- exec -------------------------------------------------------------------------------------

    async def _exec(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> Snapshot:
        self._check_allowed(op)
        result = result_mount(op)
        if len(kept_mounts(op)) == 1:
            return (await self._step(vertex, op, inputs, emit))[result]
        shared = self._shared.setdefault(step_key(vertex), SharedStep())
        async with shared.lock:
            if result not in shared.results:
                shared.results |= await self._step(vertex, op, inputs, emit)
        return shared.results[result]

    async def _step(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result], emit: Emit
    ) -> dict[int, Snapshot]:
        """Run the step and return what is left in the mounts that are kept, by their number."""
        number = next((n for n, mount in enumerate(op.mounts) if mount.target == "/"), -1)
        root = op.mounts[number] if number >= 0 else None
        base = Snapshot()
        if root is not None and root.input is not None:
            if root.selector != "/":
                raise UserError(f'a root from "{root.selector}" of an input is not supported yet')
            base = await self.snapshot(_input(vertex, inputs, root.input))
        devices = DeviceEdits()
        if op.devices:
            devices = await asyncio.to_thread(find_devices, op.devices, self._allow)
        async with AsyncExitStack() as stack:
            outputs = Outputs(self._store, self._lease)
            stack.callback(outputs.abort)
            mounts, env = await self._mounts(vertex, op, inputs, emit, stack, outputs)
            resolv_conf = await self._resolver(op)
            lowers = await self.ensure(base, emit)
            active = await outputs.begin(number, base)
            copied = await self._rung.works_on_copies()
            lent = stack.enter_context(self._trees.lend(lowers, copied=copied))
            step = steps.spec(
                op,
                lent,
                lowers=lowers,
                upper=active.fs,
                work=active.work,
                common=self._common_of_steps(),
                store=self._store.root,
                mounts=[*devices.mounts, *mounts],
                extra_env=[*devices.env, *env],
                resolv_conf=resolv_conf,
                isolated=self._isolated,
                cgroup=self._cgroup,
            )
            tail = steps.Tail()

            def log(stream: str, data: bytes) -> None:
                emit(
                    VertexLog(
                        vertex=vertex.digest,
                        time=self._store.clock.now(),
                        stream=LogStream(stream),
                        data=data,
                    )
                )

            def on_output(stream: str, data: bytes) -> None:
                tail.add(data)
                log(stream, data)

            if not self._told_rung:
                self._told_rung = True
                if line := await self._rung.line():
                    log("stderr", line.encode())
            try:
                ended = await self._workers.run_step(step, on_output)
            except UserError as error:  # such as a user that the image does not have
                message = f"{steps.failed(op)}: {error.message}"
                raise UserError(message, spans=error.spans, hints=error.hints) from error
            steps.check_exit(op, ended, tail, vertex.meta.spans)
            results = await outputs.commit(kept_mounts(op), ended)
            if number in results:
                lent.done(self._store.deltas.path(results[number].deltas[-1]))
            return results

    def _common_of_steps(self) -> str:
        if not self._common:
            self._common = self._store.scratch("steps")
            os.makedirs(self._common + "/root")
        return self._common

    def _check_allowed(self, op: ExecOp) -> None:
        """Refuse what the request did not grant [RUN-5, RUN-6]."""
        wanted = {
            "network.host": op.network is NetworkMode.HOST,
            "security.insecure": op.security is SecurityMode.INSECURE,
        }
        for name, is_wanted in wanted.items():
            if is_wanted and name not in self._allow:
                raise UserError(
                    f"entitlement {name} is not allowed", hints=(f"grant it with --allow {name}",)
                )

    async def _mounts(
        self,
        vertex: Vertex,
        op: ExecOp,
        inputs: Sequence[Result],
        emit: Emit,
        stack: AsyncExitStack,
        outputs: Outputs,
    ) -> tuple[list[StepMount], list[str]]:
        """Return the step's mounts but for the root, in order, and secret variables."""
        found: list[StepMount] = []
        env: list[str] = []
        caches = await self._hold_caches(vertex, op, inputs, emit, stack)
        kept = kept_mounts(op)
        for number, mount in enumerate(op.mounts):
            match mount.type:
                case MountType.BIND if mount.target != "/" and number in kept:
                    base = Snapshot()
                    if mount.input is not None:
                        base = await self.snapshot(_input(vertex, inputs, mount.input))
                    lowers = await self.ensure(base, emit)
                    active = await outputs.begin(number, base)
                    found.append(
                        steps.bind_mount(
                            mount, lowers, mount.selector, upper=active.fs, work=active.work
                        )
                    )
                case MountType.BIND if mount.target != "/":
                    found.append(await self._bind(vertex, mount, inputs, emit))
                case MountType.CACHE:
                    found.append(steps.cache_mount(mount, caches.pop(0)))
                case MountType.TMPFS:
                    found.append(steps.tmpfs_mount(mount))
                case MountType.SECRET:
                    data = await asyncio.to_thread(steps.read_secret, mount, self._secrets)
                    if data is not None and mount.env:
                        env.append(steps.secret_env(mount, data))
                    if data is not None and mount.target:
                        found.append(steps.secret_mount(mount, data))
                case MountType.SSH:
                    agent = self._sources.agents.get(mount.id)
                    if agent is not None:
                        mode = 0o600 if mount.mode is None else mount.mode
                        path = await agent.path(mount.uid, mount.gid, mode)
                        found.append(steps.ssh_mount(mount, path))
                    elif mount.required:
                        raise steps.no_agent(mount.id)
                case _:
                    pass
        return found, env

    async def _bind(
        self, vertex: Vertex, mount: Mount, inputs: Sequence[Result], emit: Emit
    ) -> StepMount:
        if mount.input is None:
            return steps.bind_mount(mount, (), mount.selector)
        source = _input(vertex, inputs, mount.input)
        selector = mount.selector
        if isinstance(source, LocalTree):
            if lower := await self._contexts.lower(source):
                return steps.bind_mount(mount, (lower,), selector or "/")
            source, selector = await self._copies.snapshot(source, selector or "/")
        return steps.bind_mount(mount, await self.ensure(source, emit), selector or "/")

    async def _hold_caches(
        self,
        vertex: Vertex,
        op: ExecOp,
        inputs: Sequence[Result],
        emit: Emit,
        stack: AsyncExitStack,
    ) -> list[str]:
        mounts = [mount for mount in op.mounts if mount.type is MountType.CACHE]
        if not mounts:
            return []
        seeds: list[Seed | None] = []
        for mount in mounts:
            if mount.input is None:
                seeds.append(None)
                continue
            snapshot = await self.snapshot(_input(vertex, inputs, mount.input))
            seeds.append(_seed(self, snapshot, emit))
        held = self._caches.hold(mounts, seeds, renew=vertex.meta.ignore_cache)
        return await stack.enter_async_context(held)

    async def _resolver(self, op: ExecOp) -> str:
        """Return the step's resolv.conf; all steps of a build have the same for their network."""
        if op.network not in self._resolvers:
            self._resolvers[op.network] = await asyncio.to_thread(self._resolv_conf, op)
        return self._resolvers[op.network]

    def _resolv_conf(self, op: ExecOp) -> str:
        if steps.has_own_network(op.network, self._isolated):
            server = f"nameserver {NAME_SERVER}\n"
            return network.resolv_conf(server, host_network=True, dns=self._dns)
        host_network = steps.uses_host_network(op.network)
        return network.step_resolv_conf(host_network=host_network, dns=self._dns)

    # --- composition ------------------------------------------------------------------------------

    async def _diff(self, inputs: Sequence[Result]) -> Snapshot:
        lower, upper = [(await self.snapshot(result)).deltas for result in inputs]
        if upper[: len(lower)] != lower:
            raise UserError(
                "a difference between trees of which one is not built on the other "
                "is not supported yet"
            )
        return Snapshot(upper[len(lower) :])


def _seed(runner: BuildRunner, snapshot: Snapshot, emit: Emit) -> Seed:
    return Seed(snapshot, lambda: runner.ensure(snapshot, emit))


def _input(vertex: Vertex, inputs: Sequence[Result], index: int) -> Result:
    if not 0 <= index < len(inputs):
        raise InternalError(f'vertex "{vertex.meta.name}" refers to input {index} of {len(inputs)}')
    return inputs[index]
