"""Directories of the client copied into the store, for steps that mount them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.trees.contexttrees import ContextTrees, Readings
from pybuild.executor.trees.fileops import TRIES, ContextCopy, FileOps
from pybuild.executor.trees.flocks import locked
from pybuild.model.contents import ContentDigest, MissingSource
from pybuild.model.digest import Digest
from pybuild.model.errors import SourceMoved
from pybuild.model.ops import Copy, FileOp
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Snapshot

_KIND = "context-tree"


class ContextCopies:
    """The copies that one build mounts."""

    def __init__(
        self,
        store: Store,
        contexts: ContextTrees,
        files: FileOps,
        lease: Lease,
        ensure: Callable[[Snapshot], Awaitable[list[str]]],
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._files = files
        self._lease = lease
        self._ensure = ensure

    async def snapshot(
        self, tree: LocalTree, path: str = "/", warn: Callable[[str], None] = lambda _: None
    ) -> ContextCopy:
        """Return a snapshot that holds *path* of *tree*.

        Ignored files are left out and everything belongs to root, as in a copy [CP-7, CTX-3].
        Trees of equal content share one snapshot, also between builds.

        Args:
            warn: told of a tree that never keeps still.
        """
        whole = Selection(path=path, contents_only=False, keep_owner=False)
        readings = await self._still(tree, whole, warn)
        if self._contexts.held(tree) is None:
            key = _key(readings.contents[whole], path)
            lock = os.path.join(self._store.root, "locks", "context-" + key.hex)
            async with locked(lock):
                known = await asyncio.to_thread(self._known, key)
                if known is not None:
                    delta, selector = known
                    return ContextCopy(Snapshot((delta,)), selector, readings.contents)
                copy = await self._copy(tree, path, warn)
                if self._contexts.held(tree) is None:
                    value = {"delta": copy.snapshot.deltas[-1], "selector": copy.selector}
                    key = _key(copy.contents[whole], path)
                    await asyncio.to_thread(self._store.records.put, _KIND, key, value)
                    return copy
        return await self._files.held(tree, path, readings)

    async def _still(
        self, tree: LocalTree, whole: Selection, warn: Callable[[str], None]
    ) -> Readings:
        """Return the readings of a path that was digested whole in one state of *tree*."""
        left = TRIES
        while True:
            await self._contexts.digest(tree, whole)
            readings = await self._contexts.readings(tree, [whole.path])
            if self._contexts.held(tree) is not None or readings.agree():
                return readings
            left -= 1
            try:
                await self._contexts.check(readings)
                return readings
            except SourceMoved as moved:
                if left > 0:
                    await self._contexts.renew(readings)
                else:
                    await self._files.hold(tree, moved, warn)

    def _known(self, key: str) -> tuple[str, str] | None:
        """Return the delta of the copy and where in it the path is."""
        value = self._store.records.get(_KIND, key) or {}
        delta, selector = value.get("delta"), value.get("selector")
        if not isinstance(delta, str) or not isinstance(selector, str):
            return None
        self._lease.add("delta", delta)
        return (delta, selector) if self._store.deltas.has(delta) else None

    async def _copy(self, tree: LocalTree, path: str, warn: Callable[[str], None]) -> ContextCopy:
        # A file stands under its own name in the copy, a directory is the copy's root.
        name = path.rstrip("/").rpartition("/")[2]
        selector = "/" if await asyncio.to_thread(_is_dir, tree, path) else f"/{name}"
        copy = FileOp(actions=(Copy(input=1, source=path, dest=selector),))
        made, contents = await self._files.run(
            copy, Snapshot(), {1: tree}, self._ensure, lambda _: None, is_scratch=False, warn=warn
        )
        return ContextCopy(made, selector, contents[1])


def _key(content: ContentDigest, path: str) -> Digest:
    return Digest.of_json({"content": content.digest, "path": path})


def _is_dir(tree: LocalTree, path: str) -> bool:
    from pybuild.executor.files.selecting import find
    from pybuild.executor.files.tree import Tree

    try:
        with Tree.open(tree.path, tree.exclude) as opened, find(opened, path, follow=True) as at:
            return at.is_dir
    except FileNotFoundError as error:
        raise MissingSource(tree.path, path, in_context=True) from error
