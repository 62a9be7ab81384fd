"""Directories of the client copied into the store, for steps that mount them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from pybuild.cache.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.contexttrees import ContextTrees
from pybuild.executor.fileops import FileOps
from pybuild.executor.flocks import locked
from pybuild.model.digest import Digest
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

    async def snapshot(self, tree: LocalTree, path: str = "/") -> tuple[Snapshot, str]:
        """Return a snapshot that holds *path* of *tree*, and where in it that is.

        Ignored files are left out and everything belongs to root, as in a copy [CP-7, CTX-3].
        Trees of equal content share one snapshot, also between builds.
        """
        whole = Selection(path=path, contents_only=False, keep_owner=False)
        content = await self._contexts.digest(tree, whole)
        key = Digest.of_json({"content": content.digest, "path": path})
        lock = os.path.join(self._store.root, "locks", "context-" + key.hex)
        async with locked(lock):
            found = await asyncio.to_thread(self._known, key)
            if found is None:
                found = await self._copy(tree, path)
                await asyncio.to_thread(self._store.records.put, _KIND, key, found)
        return Snapshot((found["delta"],)), found["selector"]

    def _known(self, key: str) -> dict[str, Any] | None:
        value = self._store.records.get(_KIND, key)
        if value is None or not isinstance(value.get("delta"), str):
            return None
        self._lease.add("delta", value["delta"])
        return value if self._store.deltas.has(value["delta"]) else None

    async def _copy(self, tree: LocalTree, path: str) -> dict[str, Any]:
        # A file stands under its own name in the copy, a directory is the copy's root.
        name = path.rstrip("/").rpartition("/")[2]
        selector = "/" if await asyncio.to_thread(_is_dir, tree, path) else f"/{name}"
        copy = FileOp(actions=(Copy(input=1, source=path, dest=selector),))
        made = await self._files.run(
            copy, Snapshot(), {1: tree}, self._ensure, lambda _: None, is_scratch=False
        )
        return {"delta": made.deltas[-1], "selector": selector}


def _is_dir(tree: LocalTree, path: str) -> bool:
    from pybuild.executor.files.selecting import find
    from pybuild.executor.files.tree import Tree

    with Tree.open(tree.path, tree.exclude) as opened, find(opened, path, follow=True) as at:
        return at.is_dir
