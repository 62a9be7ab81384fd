"""Directories of the client as inputs, digested in place.

What was digested is what gets used: a cache key made from one state of a file must never name a
result made from another. So whoever has read from a local tree asks `verify` afterwards.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pybuild.cache.store import Store
from pybuild.executor.local import LocalDigester
from pybuild.executor.treefacts import TreeFacts
from pybuild.model.errors import UserError
from pybuild.model.selection import ContentDigest, Selection
from pybuild.model.snapshot import LocalTree


class ContextTrees:
    """The local trees of one build."""

    def __init__(self, store: Store) -> None:
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

    def facts(self, tree: LocalTree, wanted: Selection) -> tuple[Selection, TreeFacts] | None:
        """Return what a directory's contents were made of when they were digested.

        Another selection of the same path may have picked other files, so all must be *wanted* that
        decides which; the directory's own name and an empty selection do not.
        """
        wanted = _picks(wanted)
        for (known, selection), facts in self._facts.items():
            if known == tree and facts.plain and _picks(selection) == wanted:
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

    async def close(self) -> None:
        """Keep what was learnt about files for the next build."""
        await asyncio.to_thread(self._digester.save)


def _picks(selection: Selection) -> Selection:
    """Return *selection* without what does not decide which files below a directory it picks."""
    return replace(selection, contents_only=True, keep_owner=False, allow_empty=True)


def _changed(tree: LocalTree, what: str) -> UserError:
    return UserError(
        f"{what} in {tree.path} changed while it was being copied",
        hints=("build again when nothing writes to it",),
    )


def _difference(before: ContentDigest, now: ContentDigest) -> str:
    """Name one path that differs, for the message."""
    changed = sorted({path for path, _ in set(before.entries) ^ set(now.entries)})
    return f'"/{changed[0]}"' if changed else "a file"
