"""Directories of the client as inputs, digested in place.

What was digested is what gets used: a cache key made from one state of a file must never name a
result made from another. So whoever reads from a local tree takes its `readings` before and asks
`check` afterwards. A tree that never keeps still is copied once, whatever it is then, and the copy
stands for it from then on (`hold`).
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pybuild.cache.store import Store
from pybuild.model.contents import ContentDigest
from pybuild.model.errors import SourceMoved, UserError
from pybuild.model.ops import LocalSource
from pybuild.model.selection import Selection
from pybuild.model.snapshot import LocalTree, Snapshot

if TYPE_CHECKING:
    from pybuild.executor.trees.local import LocalDigester
    from pybuild.executor.trees.seen import Seen
    from pybuild.executor.trees.treefacts import TreeFacts

STILL_HINT = "build again when nothing writes to it"
_TRIES = 3


class Reading:
    """The state of one selection of a tree when it was digested.

    Attributes:
        seen: the stat results of its files then.
        facts: its entries, for a directory's contents.
    """

    __slots__ = ("content", "facts", "seen")

    def __init__(self, content: ContentDigest, facts: TreeFacts, seen: Seen) -> None:
        self.content = content
        self.facts = facts
        self.seen = seen


class Readings:
    """The states of a tree's selections when somebody began to read them again."""

    def __init__(self, tree: LocalTree, by_selection: Mapping[Selection, Reading]) -> None:
        self.tree = tree
        self.by_selection = by_selection

    @property
    def contents(self) -> dict[Selection, ContentDigest]:
        return {selection: reading.content for selection, reading in self.by_selection.items()}

    def agree(self) -> bool:
        """Return whether the selections, all of one path, were digested in one and the same state."""
        readings = list(self.by_selection.values())
        return len({one.seen.signature for one in readings}) <= 1 and not any(
            one.seen.moved or one.seen.wait_s(one.seen.began_ns) for one in readings
        )


class ContextTrees:
    """The local trees of one build."""

    def __init__(self, store: Store, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder = os.path.join(store.root, "statindex")
        self._made: LocalDigester | None = None
        self._now_ns = now_ns
        self._readings: dict[LocalTree, dict[Selection, Reading]] = {}
        self._held: dict[LocalTree, Snapshot] = {}

    @property
    def _digester(self) -> LocalDigester:
        """Made, and imported with all that reads trees, when the first tree is read."""
        if self._made is None:
            from pybuild.executor.trees.local import LocalDigester

            self._made = LocalDigester(self._folder)
        return self._made

    def hold(self, tree: LocalTree, copy: Snapshot) -> None:
        """Let *copy* stand for *tree*, which never keeps still, for the rest of the build."""
        self._held[tree] = copy

    def held(self, tree: LocalTree) -> Snapshot | None:
        """Return the copy that stands for *tree*; None: it is read in place."""
        return self._held.get(tree)

    def knows(self, tree: LocalTree) -> bool:
        """Return whether anything of *tree* has been digested."""
        return bool(self._readings.get(tree))

    async def digest(self, tree: LocalTree, selection: Selection) -> ContentDigest:
        """Digest what *selection* picks; the same question gets the same answer until `renew`.

        Raises:
            UserError: a path is not there. EnvironmentFault: it cannot be read.
        """
        known = self._readings.setdefault(tree, {})
        if selection not in known:
            known[selection] = await self._read(tree, selection)
        return known[selection].content

    async def _read(self, tree: LocalTree, selection: Selection) -> Reading:
        from pybuild.executor.trees.seen import Seen
        from pybuild.executor.trees.treefacts import TreeFacts

        for left in reversed(range(_TRIES)):
            facts, seen = TreeFacts(), Seen()
            try:
                content = await asyncio.to_thread(
                    self._digester.digest, tree, selection, facts, seen
                )
            except SourceMoved:
                if not left:
                    raise
            else:
                return Reading(content, facts, seen)
        raise AssertionError("the last try returns or raises")

    def facts(self, readings: Readings, wish: Selection) -> tuple[Selection, TreeFacts] | None:
        """Return the facts about a directory's contents when they were digested.

        Another selection of the same path may have picked other files, so all that decides
        which must be as in *wish*; the directory's own name and an empty selection do not.
        """
        wish = _picks(wish)
        for selection, reading in readings.by_selection.items():
            if reading.facts.plain and _picks(selection) == wish:
                return selection, reading.facts
        return None

    async def readings(self, tree: LocalTree, paths: Sequence[str]) -> Readings:
        """Return the readings under *paths*; to be asked before any of it is read again.

        Returns after the clock's tick in which the youngest file was changed, so that whatever
        changes from now on shows.
        """
        selected = {"/", *paths}
        known = self._readings.get(tree, {})
        readings = Readings(tree, {s: known[s] for s in list(known) if s.path in selected})
        if not tree.held:
            now = self._now_ns()
            wait = max((r.seen.wait_s(now) for r in readings.by_selection.values()), default=0)
            if wait:
                await asyncio.sleep(wait)
        return readings

    async def check_some(
        self, readings: Readings, selection: Selection, only: Mapping[str, Sequence[str]]
    ) -> None:
        """See that *only* some of what was digested is still there as it was, times included.

        Args:
            only: names in each directory, by its path below the selected one.

        Raises:
            SourceMoved: it is not.
        """
        tree, before = readings.tree, readings.by_selection[selection]
        since_ns = before.seen.began_ns
        now = await asyncio.to_thread(self._digester.facts, tree, selection, only, since_ns)
        paths = [f"{above}/{name}".lstrip("/") for above, names in only.items() for name in names]
        path = now.differs(before.facts, ["", *paths])
        if path is not None:
            raise _moved(posixpath.join("/", selection.path, path))

    async def check(self, readings: Readings) -> None:
        """See that all is still there as it was, and has been there all the time.

        Raises:
            SourceMoved: it is not.
        """
        if readings.tree.held:
            return
        for selection, before in readings.by_selection.items():
            now = await self._read(readings.tree, selection)
            known = self._readings[readings.tree]
            if known.get(selection) is before:
                known[selection] = now
            if (
                now.seen.signature != before.seen.signature
                or now.content.digest != before.content.digest
                or before.seen.moved
            ):
                raise _moved(_difference(selection, before, now))
            if now.facts != before.facts:
                before.facts.plain = False  # a time is not what was noted

    async def renew(self, readings: Readings) -> None:
        """Digest anew what has been digested, once it has moved.

        Raises: as `digest` does.
        """
        known = self._readings.get(readings.tree, {})
        for selection, before in readings.by_selection.items():
            if known.get(selection) is before:
                known[selection] = await self._read(readings.tree, selection)

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
        if self._made is not None:
            await asyncio.to_thread(self._made.save)


def _picks(selection: Selection) -> Selection:
    """Return *selection* without what does not decide which files below a directory it picks."""
    return selection._replace(contents_only=True, keep_owner=False, allow_empty=True)


def _moved(path: str) -> SourceMoved:
    return SourceMoved(f'"{path}" changes while it is read', hints=[STILL_HINT])


def _difference(selection: Selection, before: Reading, now: Reading) -> str:
    """Return a path that differs, for people."""
    changed = sorted({path for path, _ in set(before.content.entries) ^ set(now.content.entries)})
    moved = [path for path in (before.seen.moved, now.seen.moved) if path]
    return posixpath.join("/", [*moved, *changed, selection.path][0])


TellProgress = Callable[[str, int, int, bool], None]
"""Called with what is under way, bytes so far, bytes in all (0: not known), and whether it is done."""


class LocalTrees(Protocol):
    """Brings directories of a client that is not on this machine."""

    async def tree(self, op: LocalSource, tell: TellProgress) -> LocalTree:
        """Return the directory that holds what *op* selects.

        Raises:
            UserError: the client has none of that name. EnvironmentFault: it went away.
        """
        ...


class GivenTrees:
    """Directories of this machine, by the names of their local sources."""

    def __init__(self, trees: Mapping[str, LocalTree]) -> None:
        self._trees = dict(trees)

    async def tree(self, op: LocalSource, tell: TellProgress) -> LocalTree:
        tree = self._trees.get(op.name)
        if tree is None:
            raise UserError(f'no directory was given for the context "{op.name}"')
        return tree
