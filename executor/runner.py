"""Makes vertices happen for one build: the solver's `Runner`, offered without knowing the solver."""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

from pybuild.cache.store import Store
from pybuild.executor import network
from pybuild.executor.fetch import Fetcher
from pybuild.executor.layers import Layers
from pybuild.executor.resolvers import Resolvers
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.steps import execop
from pybuild.executor.steps.cachemounts import CacheMounts, Seed
from pybuild.executor.steps.kepttrees import KeptTrees
from pybuild.executor.steps.outputs import Outputs, SharedStep, kept_mounts, result_mount, step_key
from pybuild.executor.steps.rung import Rung
from pybuild.executor.steps.spec import DeviceEdits, StepExit, StepMount
from pybuild.executor.trees.contentdigests import ContentDigests
from pybuild.executor.trees.contextcopies import ContextCopies
from pybuild.executor.trees.contexttrees import ContextTrees, GivenTrees, LocalTrees, TellProgress
from pybuild.executor.trees.fileops import FileOps
from pybuild.executor.workers.workers import Workers
from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.errors import InternalError, PybuildError, UserError
from pybuild.model.events import BuildWarning, Emit, Event, LogStream, VertexLog, VertexProgress
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
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.authorities import Authorities


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
        ca: files with authorities that steps trust beside their image's; see `authorities`.
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
        secrets: execop.Secrets | None = None,
        dns: network.DnsSettings | None = None,
        allow: frozenset[str] = frozenset(),
        isolated_network: bool = False,
        ca: Sequence[str] = (),
        cgroup: str = "",
        sources: RemoteSources | None = None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._locals = GivenTrees(locals) if isinstance(locals, Mapping) else locals
        self._secrets: execop.Secrets = {} if secrets is None else secrets
        self._allow = allow
        self._isolated = isolated_network
        self._authorities: Authorities | None = None
        if ca:
            from pybuild.executor.authorities import Authorities

            self._authorities = Authorities(ca)
        self._cgroup = cgroup
        self._lease = store.leases.create()
        self._owns_sources = sources is None
        self._sources = sources or RemoteSources(store, workers, secrets=self._secrets)
        self.layers = Layers(store, workers, fetcher, self._lease)
        self._digests = ContentDigests(store, workers, self._mount_dir, self._ensure_quietly)
        self._contexts = ContextTrees(store)
        self._rung = Rung(store, workers)
        digest, can_patch = self._digests.digest, self._rung.can_patch
        self._files = FileOps(
            store, self._contexts, self._lease, workers, self._mount_dir, can_patch, digest
        )
        self._copies = ContextCopies(store, self._contexts, self._files, self._lease, self.ensure)
        self._caches = CacheMounts(store, workers, self._lease)
        self._shared: dict[Digest, SharedStep] = {}
        self._read: dict[Digest, dict[int, Mapping[Selection, ContentDigest]]] = {}
        self._resolvers = Resolvers(dns, isolated_network)
        self._trees = KeptTrees(store)
        self._has_said_rung = False
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
        """Return the key of a source's content; None for those with content-based keys alone."""
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
            held = self._contexts.held(result)
            if held is None:
                return await self._contexts.digest(result, selection)
            result = held
        return await self._digests.digest(result, selection)

    def reread(self, vertex: Vertex) -> Contents:
        """Return the contents of the client's directories that the ended run of *vertex* read."""
        return self._read.pop(vertex.digest, {})

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
                snapshots = [await self._input(vertex, inputs, n, emit) for n in range(len(inputs))]
                return Snapshot(tuple(d for snapshot in snapshots for d in snapshot.deltas))
            case DiffOp():
                return await self._diff(vertex, inputs, emit)

    async def _remote(self, vertex: Vertex, op: HttpSource | GitSource, emit: Emit) -> Snapshot:
        progress = self._progress(vertex, emit)
        snapshot = await self._sources.snapshot(
            op, lambda now, all: progress("fetching", now, all, False)
        )
        await asyncio.to_thread(self._lease.add_all, [("delta", name) for name in snapshot.deltas])
        return snapshot

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
        return (await self._copies.snapshot(result)).snapshot

    async def _input(
        self, vertex: Vertex, inputs: Sequence[Result], index: int, emit: Emit
    ) -> Snapshot:
        """Return the input number *index* as a snapshot."""
        if isinstance(result := _input(vertex, inputs, index), Snapshot):
            return result
        copy = await self._copies.snapshot(result, "/", _warning(emit))
        self._note(vertex, index, copy.contents)
        return copy.snapshot

    def _note(
        self, vertex: Vertex, index: int, contents: Mapping[Selection, ContentDigest]
    ) -> None:
        """Keep what was read of an input for `reread`."""
        read = self._read.setdefault(vertex.digest, {})
        read[index] = {**read.get(index, {}), **contents}

    async def ensure(self, snapshot: Snapshot, emit: Emit = _quiet) -> list[str]:
        """Return the directories of the snapshot's deltas, base first; layers are unpacked."""
        return await self.layers.ensure(snapshot.deltas, emit)

    def _mount_dir(self) -> str:
        """Return an empty directory for workers to mount on.

        Each worker sees its own mounts alone, so all of them have the same directory.
        """
        if not self._covered:
            covered = self._store.scratch("mounts")
            os.mkdir(covered, 0o700)
            self._covered = covered
        return self._covered

    async def _ensure_quietly(self, deltas: Sequence[str]) -> list[str]:
        return await self.layers.ensure(deltas, _quiet)

    # --- file ops ---------------------------------------------------------------------------------

    async def _file(
        self, vertex: Vertex, op: FileOp, inputs: Sequence[Result], emit: Emit
    ) -> Snapshot:
        base = await self._input(vertex, inputs, 0, emit)
        sources = {
            action.input: _input(vertex, inputs, action.input)
            for action in op.actions
            if isinstance(action, Copy)
        }

        def on_progress(copied_bytes: int) -> None:
            emit(
                VertexProgress(
                    vertex=vertex.digest,
                    id="copying",
                    current=copied_bytes,
                    time=self._store.clock.now(),
                )
            )

        made, contents = await self._files.run(
            op,
            base,
            sources,
            lambda snapshot: self.ensure(snapshot, emit),
            on_progress,
            is_scratch=isinstance(vertex.inputs[0].op, ScratchSource),
            warn=_warning(emit),
        )
        for index, read in contents.items():
            self._note(vertex, index, read)
        return made

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
                shared.contents = self._read.get(vertex.digest, {})
        for index, read in shared.contents.items():
            self._note(vertex, index, read)
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
            base = await self._input(vertex, inputs, root.input, emit)
        devices = DeviceEdits()
        if op.devices:
            from pybuild.executor.devices import find_devices

            devices = await asyncio.to_thread(find_devices, op.devices, self._allow)
        async with AsyncExitStack() as stack:
            outputs = Outputs(self._store, self._lease)
            stack.callback(outputs.abort)
            mounts, env = await self._mounts(vertex, op, inputs, emit, stack, outputs)
            default_env: Sequence[str] = ()
            if self._authorities is not None:
                mounts.insert(0, await self._authorities.mount(self._common_of_steps()))
                default_env = self._authorities.environment
            resolv_conf = await self._resolvers.of(op.settings)
            lowers = await self.ensure(base, emit)
            active = await outputs.begin(number, base)
            copied = await self._rung.works_on_copies()
            lent = stack.enter_context(self._trees.lend(lowers, copied=copied))
            step = execop.spec(
                op,
                lent,
                lowers=lowers,
                upper=active.fs,
                work=active.work,
                common=self._common_of_steps(),
                store=self._store.root,
                mounts=[*devices.mounts, *mounts],
                default_env=default_env,
                extra_env=[*devices.env, *env],
                resolv_conf=resolv_conf,
                isolated=self._isolated,
                cgroup=self._cgroup,
            )
            tail = execop.Tail()

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

            if not self._has_said_rung:
                self._has_said_rung = True
                if line := await self._rung.line():
                    log("stderr", line.encode())
            try:
                ended = await self._workers.run_step(step, on_output)
            except UserError as error:  # such as a user that the image does not have
                raise error.copy_with(peer=f"{execop.failed(op)}: {error.message}") from error
            execop.check_exit(
                op,
                ended,
                tail,
                vertex.meta.spans,
                trusts=self._authorities is not None,
                step=vertex.meta.name,
                reason=partial(self._reason, op, ended, (active.fs, *reversed(lowers))),
            )
            if loss := execop.loss_warning(op, ended):
                emit(BuildWarning(message=loss, spans=vertex.meta.spans))
            results = await outputs.commit(kept_mounts(op), ended)
            if number in results:
                lent.done(self._store.deltas.path(results[number].deltas[-1]))
            return results

    def _reason(
        self, op: ExecOp, ended: StepExit, layers: Sequence[str], last: Sequence[str]
    ) -> tuple[str, str]:
        from pybuild.executor.steps.exits import StepFiles, reason_of  # for failed steps alone

        ids = [mount.id for mount in op.mounts if mount.type is MountType.SECRET]
        missing = [id for id in ids if self._secrets.get(id) is None]
        return reason_of(op, ended, last, StepFiles(layers), missing, self._store.root)

    def _common_of_steps(self) -> str:
        if not self._common:
            self._common = self._store.scratch("steps")
            os.makedirs(self._common + "/root")
        return self._common

    def _check_allowed(self, op: ExecOp) -> None:
        """Refuse what the request did not grant [RUN-5, RUN-6]."""
        entitlements = {
            "network.host": op.settings.network is NetworkMode.HOST,
            "security.insecure": op.security is SecurityMode.INSECURE,
        }
        for name, is_wanted in entitlements.items():
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
        mounts: list[StepMount] = []
        env: list[str] = []
        caches = await self._hold_caches(vertex, op, inputs, emit, stack)
        kept = kept_mounts(op)
        for number, mount in enumerate(op.mounts):
            match mount.type:
                case MountType.BIND if mount.target != "/" and number in kept:
                    base = Snapshot()
                    if mount.input is not None:
                        base = await self._input(vertex, inputs, mount.input, emit)
                    lowers = await self.ensure(base, emit)
                    active = await outputs.begin(number, base)
                    mounts.append(
                        execop.bind_mount(
                            mount, lowers, mount.selector, upper=active.fs, work=active.work
                        )
                    )
                case MountType.BIND if mount.target != "/":
                    mounts.append(await self._bind(vertex, mount, inputs, emit))
                case MountType.CACHE:
                    mounts.append(execop.cache_mount(mount, caches.pop(0)))
                case MountType.TMPFS:
                    mounts.append(execop.tmpfs_mount(mount))
                case MountType.SECRET:
                    read = partial(execop.read_secret, mount, self._secrets)
                    data = await execop.looked_up(self._secrets, read)
                    if data is not None and mount.env:
                        env.append(execop.secret_env(mount, data))
                    if data is not None and mount.target:
                        mounts.append(execop.secret_mount(mount, data))
                case MountType.SSH:
                    agent = self._sources.agents.get(mount.id)
                    if agent is not None:
                        mode = 0o600 if mount.mode is None else mount.mode
                        path = await agent.path(mount.uid, mount.gid, mode)
                        mounts.append(execop.ssh_mount(mount, path))
                    elif mount.required:
                        raise execop.no_agent(mount.id)
                case _:
                    pass
        return mounts, env

    async def _bind(
        self, vertex: Vertex, mount: Mount, inputs: Sequence[Result], emit: Emit
    ) -> StepMount:
        if mount.input is None:
            return execop.bind_mount(mount, (), mount.selector)
        source = _input(vertex, inputs, mount.input)
        selector = mount.selector
        if isinstance(source, LocalTree):
            if lower := await self._contexts.lower(source):
                return execop.bind_mount(mount, (lower,), selector or "/")
            path = posixpath.normpath("/" + selector.lstrip("/"))
            copy = await self._copies.snapshot(source, path, _warning(emit))
            self._note(vertex, mount.input, copy.contents)
            source, selector = copy.snapshot, copy.selector
        return execop.bind_mount(mount, await self.ensure(source, emit), selector or "/")

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
            snapshot = await self._input(vertex, inputs, mount.input, emit)
            seeds.append(Seed(snapshot, partial(self.ensure, snapshot, emit)))
        held = self._caches.hold(mounts, seeds, renew=vertex.meta.ignore_cache)
        return await stack.enter_async_context(held)

    # --- composition ------------------------------------------------------------------------------

    async def _diff(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Snapshot:
        lower, upper = [(await self._input(vertex, inputs, n, emit)).deltas for n in (0, 1)]
        if upper[: len(lower)] != lower:
            raise UserError(
                "a difference between trees of which one is not built on the other "
                "is not supported yet"
            )
        return Snapshot(upper[len(lower) :])


def _warning(emit: Emit) -> Callable[[str], None]:
    return lambda message: emit(BuildWarning(message=message))


def _input(vertex: Vertex, inputs: Sequence[Result], index: int) -> Result:
    if not 0 <= index < len(inputs):
        raise InternalError(f'vertex "{vertex.meta.name}" refers to input {index} of {len(inputs)}')
    return inputs[index]
