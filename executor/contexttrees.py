"""Directories of the client as inputs: digested in place, copied only where a tree must be mounted.

What was digested is what gets used: a cache key made from one state of a file must never name a
result made from another. So whoever has read from a local tree asks `verify` afterwards.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pybuild.cache.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.files.encode import encode_action, encode_local
from pybuild.executor.flocks import locked
from pybuild.executor.local import LocalDigester
from pybuild.executor.treefacts import TreeFacts
from pybuild.executor.workers import Workers
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy
from pybuild.model.selection import ContentDigest, Selection
from pybuild.model.snapshot import LocalTree, Snapshot

_KIND = "context-tree"


class ContextTrees:
    """The local trees of one build."""

    def __init__(self, store: Store, workers: Workers, lease: Lease) -> None:
        self._store = store
        self._workers = workers
        self._lease = lease
        self._digester = LocalDigester(os.path.join(store.root, "statindex"))
        self._digests: dict[LocalTree, dict[Selection, ContentDigest]] = {}
        self._facts: dict[tuple[LocalTree, Selection], TreeFacts] = {}

    async def digest(self, tree: LocalTree, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks; the same question gets the same answer in one build.

        Raises:
            UserError: a path is not there. EnvironmentFault: it cannot be read.
        """
        known = self._digests.setdefault(tree, {})
        if selection not in known:
            facts = self._facts[tree, selection] = TreeFacts()
            known[selection] = await asyncio.to_thread(
                self._digester.digest, tree, selection, facts
            )
        return known[selection]

    def facts(self, tree: LocalTree, path: str) -> tuple[Selection, TreeFacts] | None:
        """Return what the contents of the directory *path* were made of when they were digested."""
        for (known, selection), facts in self._facts.items():
            if known == tree and selection.path == path and facts.plain:
                return selection, facts
        return None

    async def verify_some(
        self, tree: LocalTree, selection: Selection, only: Mapping[str, Sequence[str]]
    ) -> None:
        """See that *only* some of what was digested is still there as it was, times included.

        Args:
            only: names in each directory, by its path below the selected one.

        Raises:
            UserError: it is not.
        """
        now = await asyncio.to_thread(self._digester.facts, tree, selection, only)
        paths = [f"{above}/{name}".lstrip("/") for above, names in only.items() for name in names]
        path = now.differs(self._facts[tree, selection], ["", *paths])
        if path is not None:
            shown = posixpath.join("/", selection.path, path)
            raise _changed(tree, f'"{shown}"')

    async def verify(self, tree: LocalTree, paths: Sequence[str]) -> None:
        """See that what was digested under *paths* is still there as it was.

        Raises:
            UserError: it is not.
        """
        if tree.held:
            return
        wanted = set(paths)
        for selection, before in list(self._digests.get(tree, {}).items()):
            if selection.path not in wanted:
                continue
            facts = TreeFacts()
            now = await asyncio.to_thread(self._digester.digest, tree, selection, facts)
            if now.digest != before.digest:
                raise _changed(tree, _difference(before, now))
            if facts != self._facts[tree, selection]:
                self._facts[tree, selection].plain = False  # a time is not what was noted

    async def lower(self, tree: LocalTree) -> str | None:
        """Return a directory that a step may see instead of a copy of *tree*; None if there is none.

        What the client left out of what it sent is not there. But the key of the step counts only
        what our patterns let through, so nothing else may be there either.
        """
        if not tree.mountable:
            return None
        if tree.exclude:
            whole = Selection(path="/", contents_only=False, keep_owner=False)
            shown = await self.digest(tree, whole)
            if shown.digest != (await self.digest(replace(tree, exclude=()), whole)).digest:
                return None
        return tree.path

    async def snapshot(self, tree: LocalTree, path: str = "/") -> tuple[Snapshot, str]:
        """Return a snapshot that holds *path* of *tree*, and where in it that is.

        Ignored files are left out and everything belongs to root, as in a copy [CP-7, CTX-3].
        Trees of equal content share one snapshot, also between builds.
        """
        whole = Selection(path=path, contents_only=False, keep_owner=False)
        content = await self.digest(tree, whole)
        key = Digest.of_json({"content": content.digest, "path": path})
        lock = os.path.join(self._store.root, "locks", "context-" + key.hex)
        async with locked(lock):
            found = await asyncio.to_thread(self._known, key)
            if found is None:
                found = await self._copy(tree, path)
                await self.verify(tree, [path])
                await asyncio.to_thread(self._store.records.put, _KIND, key, found)
        return Snapshot((found["delta"],)), found["selector"]

    def _known(self, key: str) -> dict[str, Any] | None:
        value = self._store.records.get(_KIND, key)
        if value is None or not isinstance(value.get("delta"), str):
            return None
        self._lease.add("delta", value["delta"])
        return value if self._store.deltas.has(value["delta"]) else None

    async def _copy(self, tree: LocalTree, path: str) -> dict[str, Any]:
        store = self._store
        covered = store.scratch("mounts")
        os.mkdir(covered, 0o700)
        active = await asyncio.to_thread(store.deltas.begin)
        # A file stands under its own name in the copy, a directory is the copy's root.
        name = path.rstrip("/").rpartition("/")[2]
        try:
            is_dir = await self._is_dir(tree, path)
            copy = Copy(input=1, source=path, dest="/" if is_dir else f"/{name}")
            args = {
                "base": [],
                "upper": active.fs,
                "work": active.work,
                "mount_dir": covered,
                "inputs": {"1": encode_local(tree)},
                "actions": [encode_action(copy, is_scratch=False)],
            }
            await self._workers.call("pybuild.executor.files.apply:apply", args)
        except BaseException:
            store.deltas.abort(active)
            raise
        finally:
            os.rmdir(covered)
        delta = await asyncio.to_thread(store.deltas.commit, active, None, None, self._lease)
        return {"delta": delta, "selector": "/" if is_dir else f"/{name}"}

    async def _is_dir(self, tree: LocalTree, path: str) -> bool:
        from pybuild.executor.files.selecting import find
        from pybuild.executor.files.tree import Tree

        def look() -> bool:
            with (
                Tree.open(tree.path, tree.exclude) as opened,
                find(opened, path, follow=True) as at,
            ):
                return at.is_dir

        return await asyncio.to_thread(look)

    async def close(self) -> None:
        """Keep what was learnt about files for the next build."""
        await asyncio.to_thread(self._digester.save)


def _changed(tree: LocalTree, what: str) -> UserError:
    return UserError(
        f"{what} in {tree.path} changed while it was being copied",
        hints=("build again when nothing writes to it",),
    )


def _difference(before: ContentDigest, now: ContentDigest) -> str:
    """Name one path that differs, for the message."""
    changed = sorted({path for path, _ in set(before.entries) ^ set(now.entries)})
    return f'"/{changed[0]}"' if changed else "a file"
