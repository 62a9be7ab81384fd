"""Requested paths, with the targets of the links on their way."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from pybuild.image.layer.confined import open_beneath
from pybuild.model.patterns import has_wildcard, match

_MAX_STEPS = 100_000


def followed(root: int, paths: Sequence[str]) -> list[str]:
    """Return *paths* as patterns, and with them each link met and where it leads, sorted.

    A wildcard stands for what it matches in its directory; ``""`` means everything. What does not
    exist stays as it is.

    Raises:
        ValueError: links or wildcards that lead to more than can be followed.
    """
    work = _Following(root)
    for path in paths:
        work.follow(_parts(path))
    return sorted(work.paths)


class _Following:
    """Walks component by component, like the kernel, but inside *root* and along all wildcards."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self.paths: set[str] = set()

    def follow(self, path: tuple[str, ...]) -> None:
        # Each item: names already walked, none of them a link, and what is still to be walked.
        items: list[tuple[tuple[str, ...], tuple[str, ...]]] = [((), path)]
        while items:
            item = items.pop()
            if item in self._seen:
                continue
            self._seen.add(item)
            if len(self._seen) > _MAX_STEPS:
                raise ValueError("followed paths lead to too many others")
            done, left = item
            if not left:
                self.paths.add(_literal(done))
                continue
            part, left = left[0], left[1:]
            if part == "..":
                items.append((done[:-1], left))
                continue
            names = self._matching(done, part) if has_wildcard(part) else [part]
            for name in names:
                here = (*done, name)
                target = self._target(done, name)
                if target is None:
                    items.append((here, left))
                    continue
                self.paths.add(_literal(here))
                start = () if target.startswith("/") else done
                # What a link says is no pattern.
                behind = tuple(_escape(part) for part in _parts(target))
                items.append((start, (*behind, *left)))

    def _matching(self, folder: tuple[str, ...], pattern: str) -> list[str]:
        try:
            fd = open_beneath(self._root, os.fsencode("/".join(folder)))
        except OSError:
            return []
        try:
            return [name for name in sorted(os.listdir(fd)) if match(pattern, name)]
        finally:
            os.close(fd)

    def _target(self, folder: tuple[str, ...], name: str) -> str | None:
        """Return where a link leads; None if it is none."""
        try:
            fd = open_beneath(self._root, os.fsencode("/".join(folder)))
        except OSError:
            return None
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else None
        except OSError:
            return None
        finally:
            os.close(fd)


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _literal(parts: tuple[str, ...]) -> str:
    """Write a path as a pattern that matches nothing else."""
    return "/".join(_escape(part) for part in parts)


def _escape(name: str) -> str:
    return "".join("\\" + char if char in "*?[\\" else char for char in name)
