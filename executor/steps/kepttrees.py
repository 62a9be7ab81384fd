"""Copies of snapshots that steps have left behind, for the steps that come next.

Where no overlay can be mounted a step works on a copy. When it ends, the copy is the tree of what
it made, and the next step of the stage begins with just that: it takes the copy over.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from pybuild.cache.store import Store

_MOST = 2


class Lent:
    """The kept tree that one step gets.

    Attributes:
        tree, tree_of, keep: as in `StepSpec`; empty where steps do not work on copies.
    """

    def __init__(self, tree: str = "", tree_of: int = 0, keep: str = "") -> None:
        self.tree = tree
        self.tree_of = tree_of
        self.keep = keep
        self.made = ""

    def done(self, delta: str) -> None:
        """Note the *delta* that the step has left on the tree."""
        self.made = delta


class KeptTrees:
    """The copies of one build, the youngest last."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trees: dict[tuple[str, ...], str] = {}

    @contextmanager
    def lend(self, lowers: Sequence[str], *, copied: bool) -> Generator[Lent]:
        """Hand out the tree of the most of *lowers* (base first), and take back what became of it.

        Args:
            copied: steps work on copies here.
        """
        if not copied:
            yield Lent()
            return
        tree, count = self._take(lowers)
        lent = Lent(tree, count, self._store.scratch("tree"))
        try:
            yield lent
        finally:
            if lent.made and os.path.isdir(lent.keep):
                self._trees[(*lowers, lent.made)] = lent.keep
            else:
                self._store.discard(lent.keep)
            if tree:
                self._store.discard(tree)  # if it was not taken over
            while len(self._trees) > _MOST:
                self._store.discard(self._trees.pop(next(iter(self._trees))))

    def _take(self, lowers: Sequence[str]) -> tuple[str, int]:
        for count in range(len(lowers), 0, -1):
            path = self._trees.pop(tuple(lowers[:count]), "")
            if path:
                return path, count
        return "", 0

    def close(self) -> None:
        """Delete all."""
        while self._trees:
            self._store.discard(self._trees.popitem()[1])
