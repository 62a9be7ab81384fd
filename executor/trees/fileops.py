"""File ops: done in a worker, on an overlay of their base, and committed as one delta.

A copy of a directory that was copied before, and in which little has changed since, becomes a patch
(`earliercopies`). The result is the same to everybody, and so are the bytes of its layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pybuild.cache.content.deltas import ActiveDelta
from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.files.encode import encode_action, encode_copy, encode_local
from pybuild.executor.files.values import Applied, CopyPath, DeltaStack, Refresh, Remark
from pybuild.executor.steps.outputs import begin_delta
from pybuild.executor.trees.contexttrees import ContextTrees, Readings
from pybuild.executor.trees.earliercopies import EarlierCopies, EarlierCopy
from pybuild.executor.workers.job import JobService, WorkerModule, job
from pybuild.executor.workers.launch import error_of
from pybuild.model.contents import ContentDigest, Contents
from pybuild.model.digest import Digest
from pybuild.model.errors import SourceMoved
from pybuild.model.ops import Copy, FileOp
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.files import apply
    from pybuild.executor.files.values import ActionFailure, TreeAction, TreeInput
    from pybuild.executor.trees.treefacts import TreeFacts
else:
    apply = WorkerModule("pybuild.executor.files.apply")

# Trees of so many deltas are near what overlay takes, and a patch is one more directory.
_MOST_DELTAS = 100
TRIES = 2
"""As often is read what keeps changing, before it is taken as it comes."""

Ensure = Callable[[Snapshot], Awaitable[list[str]]]
OnProgress = Callable[[int], None]
Say = Callable[[Remark], None]
Left = Callable[[int, Snapshot], None]
DigestSnapshot = Callable[[Snapshot, Selection], Awaitable[ContentDigest]]


class _Order(NamedTuple):
    """The base, the sources and the actions of an op as `apply.apply` takes them, and its remarks.

    Who gives *left* gets the tree that an action leaves which fails.
    """

    base: list[str]
    inputs: dict[int, TreeInput]
    actions: list[TreeAction]
    remarks: list[Remark]
    left: Left | None = None


class ContextCopy(NamedTuple):
    """A copy of a directory of the client.

    Attributes:
        selector: where in it is what was asked for.
        contents: what it holds of what was digested.
    """

    snapshot: Snapshot
    selector: str
    contents: Mapping[Selection, ContentDigest]


class _Source:
    """The directory of the client whose contents an op copies, and does nothing else."""

    def __init__(
        self, copy: Copy, readings: Readings, selection: Selection, facts: TreeFacts
    ) -> None:
        self.copy = copy
        self.readings = readings
        self.selection = selection
        self.facts = facts


class FileOps:
    """Does the file ops of one build.

    Args:
        mount_dir: gives an empty directory to mount on.
        can_patch: tells whether overlays can be mounted, and owners are the kernel's.
        digest: digests what a selection picks from a snapshot.
    """

    def __init__(
        self,
        store: Store,
        contexts: ContextTrees,
        lease: Lease,
        workers: JobService,
        mount_dir: Callable[[], str],
        can_patch: Callable[[], Awaitable[bool]],
        digest: DigestSnapshot,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._lease = lease
        self._workers = workers
        self._mount_dir = mount_dir
        self._can_patch = can_patch
        self._digest = digest
        self._holding = asyncio.Lock()
        self._earlier = EarlierCopies(store, lease)

    async def run(
        self,
        op: FileOp,
        base: Snapshot,
        sources: Mapping[int, Result],
        ensure: Ensure,
        on_progress: OnProgress,
        *,
        is_scratch: bool,
        warn: Callable[[str], None],
        say: Say | None = None,
        left: Left | None = None,
    ) -> tuple[Snapshot, Contents]:
        """Do *op* on *base* and return a committed snapshot, and what was read of the client's trees.

        A file of those that changes meanwhile is read again, with all that is copied; where none of
        `TRIES` finds everything still, the tree is held (`hold`).

        Args:
            sources: what its copies read, by input.
            ensure: as `Layers.ensure`.
            is_scratch: the base is the empty tree by definition, not by chance.
            warn: told of a tree that is held.
            say: gets what there is to remark of what was copied.
            left: gets the number of an action that fails and the tree as it is then, leased.

        Raises:
            UserError, EnvironmentFault.
        """
        paths: dict[int, list[str]] = {}
        for action in op.actions:
            tree = sources[action.input] if isinstance(action, Copy) else None
            if isinstance(action, Copy) and isinstance(tree, LocalTree):
                paths.setdefault(action.input, []).append(action.source)
                if not self._contexts.knows(tree):
                    await self._contexts.digest(tree, _selection_of(action))
        contents: dict[int, Mapping[Selection, ContentDigest]] = {}
        for more in reversed(range(TRIES + 1)):
            now = dict(sources)
            readings: dict[int, Readings] = {}
            for index, read in paths.items():
                tree = sources[index]
                assert isinstance(tree, LocalTree)
                reading = readings[index] = await self._contexts.readings(tree, read)
                contents[index] = reading.contents
                if self._contexts.held(tree) is not None:
                    copy = await self.held(tree, "/", readings.pop(index))
                    now[index], contents[index] = copy.snapshot, copy.contents
            remarks: list[Remark] = []
            run = partial(self._once, op, base, now, readings, remarks, ensure, on_progress)
            try:
                made = await run(is_scratch, left)
            except SourceMoved as moved:
                if not more:
                    raise
                for reading in readings.values():
                    if more == 1:
                        await self.hold(reading.tree, moved, warn)
                    else:
                        await self._contexts.renew(reading)
            else:
                if say is not None:
                    for remark in remarks:
                        say(remark)
                return made, contents
        raise AssertionError("the last try returns or raises")

    async def hold(self, tree: LocalTree, moved: SourceMoved, warn: Callable[[str], None]) -> None:
        """Copy all of *tree* as it comes; the copy stands for it for the rest of the build."""
        async with self._holding:
            if self._contexts.held(tree) is not None:
                return
            action = Copy(input=1, source="/", dest="/")
            directory = encode_local(tree, as_it_comes=True)
            order = _Order([], {1: directory}, [encode_copy(action, is_scratch=True)], [])
            op = FileOp(actions=(action,))
            copy = await self._whole(op, Snapshot(), {}, order, lambda _: None)
            self._contexts.hold(tree, copy)
            path = moved.message.rpartition('"')[0]
            warn(f'{path}" changes while it is read: the build has it as it was read last')

    async def held(self, tree: LocalTree, path: str, readings: Readings) -> ContextCopy:
        """Return the copy that stands for *tree*, and what it has of the selections of *readings*."""
        copy = self._contexts.held(tree)
        assert copy is not None
        contents = {s: await self._digest(copy, s) for s in readings.by_selection}
        return ContextCopy(copy, path, contents)

    async def _once(
        self,
        op: FileOp,
        base: Snapshot,
        sources: Mapping[int, Result],
        readings: Mapping[int, Readings],
        remarks: list[Remark],
        ensure: Ensure,
        on_progress: OnProgress,
        is_scratch: bool,
        left: Left | None,
    ) -> Snapshot:
        """Do *op* unless a file of the client changes meanwhile.

        Raises:
            SourceMoved: it does.
        """
        inputs: dict[int, TreeInput] = {}
        for index, result in sources.items():
            inputs[index] = (
                encode_local(result)
                if isinstance(result, LocalTree)
                else DeltaStack(await ensure(result))
            )
        actions = [encode_action(action, is_scratch=is_scratch) for action in op.actions]
        order = _Order(await ensure(base), inputs, actions, remarks, left)
        source = await self._patchable(op, base, readings)
        if source is None:
            return await self._whole(op, base, readings, order, on_progress)
        place = _place(base, source.readings.tree, encode_copy(source.copy, is_scratch=is_scratch))
        earlier = await asyncio.to_thread(self._earlier.find, place, source.facts)
        if earlier is not None:
            patched = await self._patch(source, earlier, base, order, ensure, on_progress)
            if patched is not None:
                return patched
        return await self._whole(op, base, readings, order, on_progress, place, source)

    async def _patchable(
        self, op: FileOp, base: Snapshot, readings: Mapping[int, Readings]
    ) -> _Source | None:
        """Return the source of *op* where a later one of its kind may be a patch."""
        if len(op.actions) != 1 or len(base.deltas) > _MOST_DELTAS:
            return None
        (action,) = op.actions
        if not isinstance(action, Copy) or action.unpack or action.require_unpack:
            return None
        if action.input not in readings:
            return None
        selected = self._contexts.facts(readings[action.input], _selection_of(action))
        if selected is None or not await self._can_patch():
            return None
        return _Source(action, readings[action.input], *selected)

    async def _whole(
        self,
        op: FileOp,
        base: Snapshot,
        readings: Mapping[int, Readings],
        order: _Order,
        on_progress: OnProgress,
        place: Digest | None = None,
        source: _Source | None = None,
    ) -> Snapshot:
        deltas = self._store.deltas
        noted = False
        met: list[str] = []
        active = await begin_delta(deltas)
        try:
            # Who has read a stranger's archive is not to touch anything else.
            stay = not any(isinstance(a, Copy) and a.unpack for a in op.actions)
            judge = source is not None
            applied = await self._apply(active, order, on_progress, judge=judge, stay=stay)
            if applied.failure is not None:
                await self._leave(active, base, order, applied.failure)
            for reading in readings.values():
                await self._contexts.check(reading)
            if source is not None and applied.additive:
                met = list(applied.met)
                noted = await asyncio.to_thread(self._earlier.note, active.path, source.facts)
        except BaseException:
            deltas.abort(active)
            raise
        delta = await asyncio.to_thread(deltas.commit, active, None, None, self._lease)
        if noted and place is not None:
            await asyncio.to_thread(self._earlier.keep, place, delta, met)
        return Snapshot((*base.deltas, delta))

    async def _apply(
        self,
        active: ActiveDelta,
        order: _Order,
        on_progress: OnProgress,
        *,
        judge: bool,
        refresh: Refresh | None = None,
        stay: bool = True,
    ) -> Applied:
        """Have a worker write *order* into a delta."""
        work = job(
            apply.apply,
            self._mount_dir(),
            active.fs,
            work=active.work,
            base=order.base,
            inputs=order.inputs,
            actions=order.actions,
            refresh=refresh,
            judge=judge,
            keep=order.left is not None,
        )
        applied = await self._workers.call(
            work, on_progress=on_progress, stay=stay, writes=active.fs
        )
        order.remarks[:] = applied.remarks
        return applied

    async def _leave(
        self, active: ActiveDelta, base: Snapshot, order: _Order, failure: ActionFailure
    ) -> NoReturn:
        """Hand out what is there of a tree, and raise what went wrong."""
        assert order.left is not None
        delta = await asyncio.to_thread(self._store.deltas.commit, active, None, None, self._lease)
        order.left(failure.action, Snapshot((*base.deltas, delta)))
        raise error_of(("fault", failure.kind, failure.message, failure.hints))

    async def _patch(
        self,
        source: _Source,
        earlier: EarlierCopy,
        base: Snapshot,
        order: _Order,
        ensure: Ensure,
        on_progress: OnProgress,
    ) -> Snapshot | None:
        """Return *earlier* and a patch; None where the patch would hide something that it lies on."""
        deltas = self._store.deltas
        below = await ensure(Snapshot((*base.deltas, earlier.delta)))
        active = await begin_delta(deltas)
        try:
            refresh = Refresh(earlier.names, below[:-1])
            order = order._replace(base=below)
            applied = await self._apply(active, order, on_progress, refresh=refresh, judge=True)
            if applied.failure is not None:
                await self._leave(
                    active, Snapshot((*base.deltas, earlier.delta)), order, applied.failure
                )
            await self._contexts.check_some(source.readings, source.selection, earlier.names)
        except BaseException:
            deltas.abort(active)
            raise
        if not applied.additive:
            deltas.abort(active)
            return None
        name = earlier.name_patch()
        delta = await asyncio.to_thread(deltas.commit, active, name, None, self._lease)
        return Snapshot((*base.deltas, delta))


def _place(base: Snapshot, tree: LocalTree, copy: CopyPath) -> Digest:
    """Return the name under which a copy is found by a later one of its kind."""
    owner = None if copy.owner is None else copy.owner._asdict()
    return Digest.of_json(
        {
            "base": list(base.deltas),
            "source": {"local": tree.path, "exclude": tree.exclude, "git_modes": tree.git_modes},
            "actions": [{"type": "Copy", **copy._asdict(), "owner": owner}],
        }
    )


def _selection_of(copy: Copy) -> Selection:
    """Return the selection that *copy* reads of a directory of the client."""
    return Selection(
        path=copy.source,
        wildcard=copy.wildcard,
        exclude=copy.exclude,
        follow_links=copy.follow_source_links,
        contents_only=copy.contents_only,
        keep_owner=False,
        allow_empty=copy.allow_empty,
        parents_pivot=copy.parents_pivot,
    )
