"""File ops: done in a worker, on an overlay of their base, and committed as one delta.

A copy of a directory that was copied before, and in which little has changed since, becomes a patch
(`earliercopies`). The result is the same to everybody, and so are the bytes of its layer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from pybuild.cache.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.contexttrees import ContextTrees
from pybuild.executor.earliercopies import EarlierCopies, EarlierCopy
from pybuild.executor.files.encode import encode_action, encode_local
from pybuild.executor.outputs import begin_delta
from pybuild.executor.treefacts import TreeFacts
from pybuild.model.digest import Digest
from pybuild.model.ops import Copy, FileOp
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Result, Snapshot

_APPLY = "pybuild.executor.files.apply:apply"
# Trees of so many deltas are near what overlay takes, and a patch is one more directory.
_MOST_DELTAS = 100

Ensure = Callable[[Snapshot], Awaitable[list[str]]]
OnProgress = Callable[[dict[str, Any]], None]


class Call(Protocol):
    """Calls a worker function that wants an empty directory to mount on."""

    async def __call__(
        self, function: str, args: dict[str, Any], *, on_progress: OnProgress, stay: bool
    ) -> dict[str, Any]: ...


class _Source:
    """The directory of the client whose contents an op copies, and does nothing else."""

    def __init__(self, tree: LocalTree, selection: Selection, facts: TreeFacts) -> None:
        self.tree = tree
        self.selection = selection
        self.facts = facts


class FileOps:
    """Does the file ops of one build.

    Args:
        can_patch: tells whether overlays can be mounted, and owners are the kernel's.
    """

    def __init__(
        self,
        store: Store,
        contexts: ContextTrees,
        lease: Lease,
        call: Call,
        can_patch: Callable[[], Awaitable[bool]],
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._lease = lease
        self._call = call
        self._can_patch = can_patch
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
    ) -> Snapshot:
        """Do *op* on *base* and return a committed snapshot.

        Args:
            sources: what its copies read, by input.
            ensure: as `Layers.ensure`.
            is_scratch: the base is the empty tree by definition, not by chance.

        Raises:
            UserError, EnvironmentFault.
        """
        inputs: dict[str, Any] = {}
        for index, result in sources.items():
            inputs[str(index)] = (
                encode_local(result)
                if isinstance(result, LocalTree)
                else {"deltas": await ensure(result)}
            )
        args: dict[str, Any] = {
            "base": await ensure(base),
            "inputs": inputs,
            "actions": [encode_action(action, is_scratch=is_scratch) for action in op.actions],
        }
        source = await self._patchable(op, base, sources)
        if source is None:
            return await self._whole(op, base, sources, args, on_progress)
        place = Digest.of_json(
            {
                "base": list(base.deltas),
                "source": encode_local(source.tree),
                "actions": args["actions"],
            }
        )
        earlier = await asyncio.to_thread(self._earlier.find, place, source.facts)
        if earlier is not None:
            patched = await self._patch(source, earlier, base, args, ensure, on_progress)
            if patched is not None:
                return patched
        return await self._whole(op, base, sources, args, on_progress, place, source)

    async def _patchable(
        self, op: FileOp, base: Snapshot, sources: Mapping[int, Result]
    ) -> _Source | None:
        """Return what *op* copies where a later one of its kind may be a patch."""
        if len(op.actions) != 1 or len(base.deltas) > _MOST_DELTAS:
            return None
        (action,) = op.actions
        if not isinstance(action, Copy) or action.unpack or action.require_unpack:
            return None
        tree = sources[action.input]
        if not isinstance(tree, LocalTree):
            return None
        wanted = Selection(
            path=action.source,
            wildcard=action.wildcard,
            exclude=action.exclude,
            follow_links=action.follow_source_links,
            parents_pivot=action.parents_pivot,
        )
        found = self._contexts.facts(tree, wanted)
        if found is None or not await self._can_patch():
            return None
        return _Source(tree, *found)

    async def _whole(
        self,
        op: FileOp,
        base: Snapshot,
        sources: Mapping[int, Result],
        args: dict[str, Any],
        on_progress: OnProgress,
        place: Digest | None = None,
        source: _Source | None = None,
    ) -> Snapshot:
        deltas = self._store.deltas
        noted = False
        met: list[str] = []
        active = await begin_delta(deltas)
        try:
            told = {"upper": active.fs, "work": active.work, "asked": source is not None}
            # Who has read a stranger's archive is not to touch anything else.
            stay = not any(isinstance(a, Copy) and a.unpack for a in op.actions)
            done = await self._call(_APPLY, {**args, **told}, on_progress=on_progress, stay=stay)
            read: dict[LocalTree, list[str]] = {}
            for action in op.actions:
                if isinstance(action, Copy):
                    tree = sources[action.input]
                    if isinstance(tree, LocalTree):
                        read.setdefault(tree, []).append(action.source)
            for tree, paths in read.items():
                await self._contexts.verify(tree, ["/", *paths])
            if source is not None and done["additive"]:
                met = done["met"]
                noted = await asyncio.to_thread(self._earlier.note, active.path, source.facts)
        except BaseException:
            deltas.abort(active)
            raise
        delta = await asyncio.to_thread(deltas.commit, active, None, None, self._lease)
        if noted and place is not None:
            await asyncio.to_thread(self._earlier.keep, place, delta, met)
        return Snapshot((*base.deltas, delta))

    async def _patch(
        self,
        source: _Source,
        earlier: EarlierCopy,
        base: Snapshot,
        args: dict[str, Any],
        ensure: Ensure,
        on_progress: OnProgress,
    ) -> Snapshot | None:
        """Return *earlier* and a patch; None where the patch would hide something that it lies on."""
        deltas = self._store.deltas
        below = await ensure(Snapshot((*base.deltas, earlier.delta)))
        (action,) = args["actions"]
        active = await begin_delta(deltas)
        try:
            told = {
                "base": below,
                "upper": active.fs,
                "work": active.work,
                "actions": [{**action, "changed": earlier.names, "under": below[:-1]}],
                "asked": True,
            }
            done = await self._call(_APPLY, {**args, **told}, on_progress=on_progress, stay=True)
            await self._contexts.verify_some(source.tree, source.selection, earlier.names)
        except BaseException:
            deltas.abort(active)
            raise
        if not done["additive"]:
            deltas.abort(active)
            return None
        name = earlier.name_patch()
        delta = await asyncio.to_thread(deltas.commit, active, name, None, self._lease)
        return Snapshot((*base.deltas, delta))
