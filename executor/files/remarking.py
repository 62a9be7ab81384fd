"""Remarks on copies that fail nowhere and were hardly meant so; advice is made of them (`model.advice`)."""

from __future__ import annotations

import os
import stat

from pybuild.executor.files import owners
from pybuild.executor.files.selecting import select
from pybuild.executor.files.tree import Tree
from pybuild.executor.files.values import ClientDirectory, CopyPath, Remark
from pybuild.executor.zygote.faults import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.executor.files.values import TreeInput

LARGE_BYTES = 500_000_000
_MOST_NAMED = 3
_FAILURES = (OSError, ValueError, Fault)


class Copied:
    """The number of sources that the copies of one op found."""

    def __init__(self) -> None:
        self._counts: list[tuple[CopyPath, int]] = []
        self._large: tuple[CopyPath, int] | None = None

    def note(self, action: CopyPath, count: int) -> None:
        self._counts.append((action, count))

    def note_bytes(self, action: CopyPath, copied: int) -> None:
        """Note how much a copy moved."""
        if copied >= LARGE_BYTES:
            self._large = action, copied

    def remarks(
        self, target: Tree, inputs: Mapping[int, TreeInput], trees: Mapping[int, Tree]
    ) -> list[Remark]:
        """Return the remarks; none where looking fails, which is not worth a failure."""
        try:
            return [
                *self._nothing(inputs, trees),
                *self._over(target),
                *self._owner(target),
                *self._too_much(trees),
            ]
        except _FAILURES:
            return []

    def _nothing(self, inputs: Mapping[int, TreeInput], trees: Mapping[int, Tree]) -> list[Remark]:
        """Look for an op that copied nothing at all: one of several patterns may well be for what
        is there at times, and so is a letter in brackets."""
        if not self._counts or any(count for _, count in self._counts):
            return []
        patterns = [action for action, _ in self._counts if not _is_optional(action.source)]
        if not patterns:
            return []
        first = patterns[0]
        names = ", ".join(action.source.lstrip("/") for action in patterns)
        return [Remark("nothing", [names, _why(first, inputs[first.input], trees[first.input])])]

    def _over(self, target: Tree) -> list[Remark]:
        by_dest: dict[str, list[tuple[CopyPath, int]]] = {}
        for action, count in self._counts:
            if not action.dest.endswith("/") and action.parents_pivot is None:
                by_dest.setdefault(action.dest, []).append((action, count))
        for dest, copies in by_dest.items():
            if sum(count for _, count in copies) < 2:
                continue
            with target.locate(dest, follow=False) as place:
                if place.status is None or not stat.S_ISREG(place.status.st_mode):
                    continue
            names = ", ".join(action.source.lstrip("/") for action, _ in copies)
            return [Remark("over", [names, dest])]
        return []

    def _owner(self, target: Tree) -> list[Remark]:
        for action, _ in self._counts:
            if action.owner is not None and not action.is_scratch:
                names = action.owner
                if unknown := owners.unknown(target, names.user, names.group):
                    return [Remark("owner", list(unknown))]
        return []

    def _too_much(self, trees: Mapping[int, Tree]) -> list[Remark]:
        """Look for what is largest in much of a client's directory."""
        if self._large is None:
            return []
        action, copied = self._large
        tree, path = trees[action.input], action.source.strip("/")
        if not tree.is_local or action.wildcard:
            return []
        sizes: list[tuple[int, str]] = []
        with tree.locate(path) as place:
            if not place.is_dir:
                return []
            for name, status in _entries_of(tree, place.open_dir(), path):
                below = f"{path}/{name}".lstrip("/")
                sizes.append((_size(tree, below, status), below))
        sizes.sort(reverse=True)
        largest = [(size, name) for size, name in sizes[:_MOST_NAMED] if size * 20 >= copied]
        if not largest:
            return []
        from pybuild.model.amounts import short_bytes  # few copies are so large

        shown = ", ".join(f"{name} ({short_bytes(size)})" for size, name in largest)
        return [Remark("large", [short_bytes(copied), shown, largest[0][1]])]


def _entries_of(tree: Tree, fd: int, path: str) -> list[tuple[str, os.stat_result]]:
    try:
        return tree.entries(fd, path)
    finally:
        os.close(fd)


def _size(tree: Tree, path: str, status: os.stat_result) -> int:
    """Return the bytes of the files at and below *path*."""
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    with tree.locate(path, follow=False) as place:
        entries = _entries_of(tree, place.open_dir(), path) if place.is_dir else []
    return sum(_size(tree, f"{path}/{name}", one) for name, one in entries)


def _is_optional(pattern: str) -> bool:
    """Return whether *pattern* is a name with one letter in brackets, as for a file that may be missing."""
    begin, end = pattern.find("["), pattern.find("]")
    return 0 <= begin == end - 2 and not any(char in pattern for char in "*?")


def _why(action: CopyPath, source: TreeInput, tree: Tree) -> str:
    """Return a hint about a pattern that matches nothing."""
    where = "the context" if tree.is_local else "that tree"
    if isinstance(source, ClientDirectory) and source.exclude:
        with Tree.open(source.local, is_local=True) as whole:
            if hidden := select(whole, action.source, wildcard=True):
                return f".dockerignore excludes {hidden[0].path}"
    from pybuild.executor.trees.nearby import hint_of_pattern

    return hint_of_pattern(tree, action.source, where)
