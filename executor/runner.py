"""Makes vertices happen for one build: the solver's `Runner`, offered without knowing the solver."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from pybuild.cache.store import Store
from pybuild.executor import network
from pybuild.executor.fetch import Fetcher
from pybuild.executor.inputs import VertexInputs, advice_of, input_of, warning
from pybuild.executor.layers import Layers
from pybuild.executor.sources.remote import RemoteSources
from pybuild.executor.stepnetworks import Connect
from pybuild.executor.steps import execop
from pybuild.executor.steps.execops import ExecOps
from pybuild.executor.steps.rung import Rung
from pybuild.executor.trees.contentdigests import ContentDigests
from pybuild.executor.trees.contextcopies import ContextCopies
from pybuild.executor.trees.contexttrees import ContextTrees, GivenTrees, LocalTrees, TellProgress
from pybuild.executor.trees.fileops import FileOps
from pybuild.executor.workers.job import WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.errors import PybuildError
from pybuild.model.events import Emit, Event, VertexProgress
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
    OciLayoutSource,
    PassOp,
    ScratchSource,
    Vertex,
    image_identity,
)
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot, stacked

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from pybuild.executor.failedsteps import FailedTrees, KeepFailed
    from pybuild.executor.files import changes
    from pybuild.executor.proxies.server import Judge
    from pybuild.executor.steps.cachemounts import MountCarrier
    from pybuild.executor.steps.container import StepContainer
else:
    changes = WorkerModule("pybuild.executor.files.changes")


def _quiet(_event: Event) -> None:
    """Take events that belong to no vertex."""


class Stops(Protocol):
    """Lets vertices wait; raises to have them fail."""

    async def before(self, vertex: Vertex, inputs: Sequence[Result]) -> None: ...

    async def after(self, vertex: Vertex, inputs: Sequence[Result], result: Result) -> None: ...


class BuildRunner:
    """Runs the vertices of one build. An async context manager: results are leased until its end.

    Args:
        fetcher: brings blobs of pulled layers.
        locals: the client's directories by the name of their local source, or who brings them.
        secrets: by id, how to read the value; called when a step wants it, in a thread.
        dns: overrides of the host's resolver settings.
        allow: entitlements, ``network.host`` and ``security.insecure``.
        devices: directories of files about devices; see `devices`.
        network_mode, connect: of steps that ask for no network; see `steps.defaultnetwork`.
        ca: files with authorities that steps trust beside their image's; see `authorities`.
        cgroup: which those that steps name may not leave; empty for whoever may name any.
        judge: has a say in what steps ask their proxies for; see `proxies.server`.
        sources: what comes from elsewhere, closed by its owner; the runner's own by default.

    Attributes:
        stops: lets vertices wait before and after they run.
    """

    stops: Stops | None = None

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
        devices: Sequence[str] = (),
        network_mode: str = "auto",
        connect: Connect | None = None,
        ca: Sequence[str] = (),
        cgroup: str = "",
        judge: Judge | None = None,
        sources: RemoteSources | None = None,
    ) -> None:
        self._store = store
        self._workers = workers
        self._locals = GivenTrees(locals) if isinstance(locals, Mapping) else locals
        given: execop.Secrets = {} if secrets is None else secrets
        self._lease = store.leases.create()
        self._owns_sources = sources is None
        self._sources = sources or RemoteSources(store, workers, secrets=given)
        self.layers = Layers(store, workers, fetcher, self._lease)
        self._digests = ContentDigests(store, workers, self._mount_dir, self._ensure_quietly)
        self._contexts = ContextTrees(store)
        rung = Rung(store, workers)
        digest, can_patch = self._digests.digest, rung.can_patch
        self._files = FileOps(
            store, self._contexts, self._lease, workers, self._mount_dir, can_patch, digest
        )
        self._copies = ContextCopies(store, self._contexts, self._files, self._lease, self.ensure)
        self._inputs = VertexInputs(self._copies)
        self._failed: FailedTrees | None = None
        self._steps = ExecOps(
            store,
            workers,
            self._lease,
            rung,
            self._contexts,
            self._inputs,
            self.ensure,
            self._sources,
            secrets=given,
            dns=dns,
            allow=allow,
            devices=devices,
            network_mode=network_mode,
            connect=connect,
            ca=ca,
            cgroup=cgroup,
            judge=judge,
        )
        self._covered = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            self._workers.rest()
            await self._steps.close()
            if self._failed is not None:
                self._failed.close()
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
            case ImageSource() | OciLayoutSource() as op:
                return image_identity(op)
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
        return self._inputs.take(vertex)

    def foresee(self, steps: int) -> None:
        """Have ready what so many steps are going to need; until *run* is done, nobody waits for it."""
        self._steps.foresee(steps)

    async def run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        """Do the vertex's op on its inputs' results and return a committed result, leased.

        Raises:
            StepError: a process failed; UserError; EnvironmentFault.
        """
        try:
            if self.stops is not None:
                await self.stops.before(vertex, inputs)
            result = await self._run(vertex, inputs, emit)
            if self.stops is not None:
                await self.stops.after(vertex, inputs, result)
        except PybuildError as error:
            raise error.with_spans(vertex.meta.spans) from error.__cause__
        if isinstance(vertex.op, ExecOp | FileOp) and isinstance(result, Snapshot):
            self._digests.made(result)
        return result

    async def _run(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Result:
        match vertex.op:
            case ScratchSource():
                return Snapshot()
            case ImageSource(digest=digest, layers=layers) if layers:
                snapshot = await asyncio.to_thread(self.layers.of_image, digest)
                return Snapshot(snapshot.deltas[:layers])
            case ImageSource(digest=digest) | OciLayoutSource(digest=digest):
                return await asyncio.to_thread(self.layers.of_image, digest)
            case HttpSource() | GitSource() as op:
                return await self._remote(vertex, op, emit)
            case LocalSource() as op:
                return await self._locals.tree(op, self._progress(vertex, emit))
            case FileOp() as op:
                return await self._file(vertex, op, inputs, emit)
            case ExecOp() as op:
                return await self._steps.run(vertex, op, inputs, emit)
            case MergeOp():
                snapshots = [
                    await self._inputs.snapshot(vertex, inputs, n, emit) for n in range(len(inputs))
                ]
                return await self._merge(snapshots, emit)
            case DiffOp():
                return await self._diff(vertex, inputs, emit)
            case PassOp(output=output):
                return await self._inputs.snapshot(vertex, inputs, output, emit)

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

    def carry_mounts(self, carrier: MountCarrier) -> None:
        """From now on let *carrier* have a part in the steps' cache mounts."""
        self._steps.cache_mounts.carrier = carrier

    def keep_failed(self, take: KeepFailed) -> None:
        """From now on let *take*, too, have the trees of steps that fail, which are lost otherwise."""
        from pybuild.executor.failedsteps import FailedTrees

        if self._failed is None:
            self._failed = self._steps.failed = FailedTrees(self._store)
        self._failed.tell(take)

    def leave_failed(self, tree: Snapshot) -> None:
        """Leave the tree of a failed step in the store when the build has ended."""
        if self._failed is not None:
            self._failed.leave(tree)

    def container(
        self, vertex: Vertex, op: ExecOp, inputs: Sequence[Result]
    ) -> AbstractAsyncContextManager[StepContainer]:
        """Return a container with the tree and the mounts of *op*, to be entered by the caller."""
        return self._steps.container(vertex, op, inputs, _quiet)

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
        base = await self._inputs.snapshot(vertex, inputs, 0, emit)
        sources = {
            action.input: input_of(vertex, inputs, action.input)
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

        def leave(action: int, tree: Snapshot) -> None:
            from pybuild.executor.failedsteps import FailedStep

            if self._failed is not None:
                self._failed.keep(FailedStep(vertex, inputs, {action: tree}))

        keeps = self._failed is not None
        try:
            made, contents = await self._files.run(
                op,
                base,
                sources,
                lambda snapshot: self.ensure(snapshot, emit),
                on_progress,
                is_scratch=isinstance(vertex.inputs[0].op, ScratchSource),
                warn=warning(emit),
                say=lambda remark: emit(advice_of(remark, vertex)),
                left=leave if keeps else None,
            )
        except PybuildError as error:
            raise (error.copy_with(vertex=vertex.digest) if keeps else error) from error.__cause__
        self._inputs.note(vertex, contents)
        return made

    # --- composition ------------------------------------------------------------------------------

    async def _merge(self, snapshots: Sequence[Snapshot], emit: Emit) -> Snapshot:
        """Stack the trees, each of which hides of the others only what it took away itself."""
        first, *others = snapshots
        return stacked([first, *[await self._alone(one, emit) for one in others]])

    async def _alone(self, snapshot: Snapshot, emit: Emit) -> Snapshot:
        """Return *snapshot* with its opaque directories written out."""
        places = await self._places(snapshot, emit)
        # A patch brings along what it changes, and neither takes anything away.
        alone = [at for at, place in enumerate(places) if len(place) == 1]
        opaque = await self._workers.call(job(changes.with_opaque, [places[at][0] for at in alone]))
        deltas: list[tuple[str, ...]] = [(name,) for name in snapshot.deltas]
        for at in (alone[number] for number in opaque):
            deltas[at] = await self._changes(places[:at], places[: at + 1])
        return Snapshot(tuple(name for some in deltas for name in some))

    async def _diff(self, vertex: Vertex, inputs: Sequence[Result], emit: Emit) -> Snapshot:
        """Return the changes from the first tree to the second: of one built on it, step by step."""
        lower, upper = [await self._inputs.snapshot(vertex, inputs, n, emit) for n in (0, 1)]
        before, after = await self._places(lower, emit), await self._places(upper, emit)
        cut = len(lower.deltas)
        if upper.deltas[:cut] != lower.deltas:
            return Snapshot(await self._changes(before, after))
        deltas: list[str] = []
        for at in range(cut, len(after)):
            deltas += await self._changes(after[:at], after[: at + 1], upper.deltas[at])
        return Snapshot(tuple(deltas))

    async def _places(self, snapshot: Snapshot, emit: Emit) -> list[list[str]]:
        """Return the directories of each of the snapshot's deltas, base first."""
        places: list[list[str]] = []
        earlier: list[str] = []
        for number in range(1, len(snapshot.deltas) + 1):
            until = await self.ensure(Snapshot(snapshot.deltas[:number]), emit)
            places.append(until[len(earlier) :])
            earlier = until
        return places

    async def _changes(
        self, lower: Sequence[list[str]], upper: Sequence[list[str]], own: str = ""
    ) -> tuple[str, ...]:
        """Return the deltas that make the tree *upper* of *lower*; none where that changes nothing.

        Args:
            own: the uppermost delta of *upper*; it stays where there is nothing else in it.
        """
        deltas = self._store.deltas
        old, new = [[one for place in places for one in place] for places in (lower, upper)]
        actives = [await asyncio.to_thread(deltas.begin) for _ in range(2)]
        under, active = actives
        facts = {"type": "regular"}
        try:
            call = job(changes.write, old, new, active.fs, under.fs)
            written = await self._workers.call(call)
            is_own = bool(own) and written.number == await self._workers.call(
                job(changes.count, new[-1])
            )
            names: list[str] = []
            if written.hides:
                names.append(
                    await asyncio.to_thread(deltas.commit, under, None, facts, self._lease)
                )
            if written.number and is_own:
                names.append(own)
            elif written.number:
                names.append(
                    await asyncio.to_thread(deltas.commit, active, None, facts, self._lease)
                )
        finally:
            for one in actives:
                deltas.abort(one)
        return tuple(names)
