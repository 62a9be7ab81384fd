"""Guesses at a path that is not there. Made when an error is worded, never before."""

from __future__ import annotations

import os
import stat
from itertools import takewhile

from pybuild.executor.zygote.faults import Fault
from pybuild.model.suggest import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.executor.files.tree import Tree

_MOST_SEEN = 20_000  # entries that are looked at for a name
_MOST_NAMED = 5
_SHORT = 2  # two edits make any such name of any other


def hints_near(tree: Tree, path: str, where: str, root: str = "") -> tuple[str, ...]:
    """Return a hint about *path*, which *tree* lacks.

    Args:
        where: people's name of the tree: ``the context``.
        root: what they write before its paths.
    """
    parts = [part for part in path.split("/") if part]
    try:
        if link := _broken_link(tree, parts, where):
            return (link,)
        for first in range(1, len(parts)):
            rest = "/".join(parts[first:])
            if _is_there(tree, rest):
                return (f"it is at {root}{rest}: paths begin in {where}",)
        if (near := _spelled(tree, parts)) is not None:
            return (f"did you mean {root}{near}?",)
        if (other := _called(tree, parts[-1] if parts else "")) is not None:
            return (f"it is at {root}{other} in {where}",)
        return (_listing(tree, parts, where),)
    except (Fault, OSError, ValueError):
        return ()


def hint_of_pattern(tree: Tree, pattern: str, where: str) -> str:
    """Return a hint about a pattern of which *tree* has no match."""
    parts = [part for part in pattern.split("/") if part]
    literal = list(takewhile(lambda part: not any(char in part for char in "*?[\\"), parts[:-1]))
    if not literal or _is_there(tree, "/".join(literal)):
        return _listing(tree, [*literal, "*"], where)
    return next(iter(hints_near(tree, "/".join(literal), where)), f"{where} is empty")


def _is_there(tree: Tree, path: str) -> bool:
    try:
        with tree.locate(path) as place:
            return place.status is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _entries(tree: Tree, path: str) -> list[tuple[str, os.stat_result]]:
    with tree.locate(path) as place:
        if not place.is_dir:
            return []
        fd = place.open_dir()
    try:
        return tree.entries(fd, path)
    finally:
        os.close(fd)


def _broken_link(tree: Tree, parts: list[str], where: str) -> str:
    """Return a hint about the first link on the way that leads nowhere."""
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        try:
            with tree.locate(path, follow=False) as place:
                if place.status is None:
                    return ""
                if stat.S_ISLNK(place.status.st_mode) and not _is_there(tree, path):
                    target = os.readlink(place.name, dir_fd=place.fd)
                    return f"{path} is a link to {target}, which is not in {where}: copy what it leads to"
        except (FileNotFoundError, NotADirectoryError):
            return ""
    return ""


def _spelled(tree: Tree, parts: list[str]) -> str | None:
    """Return the path that differs from *parts* by case or a slip in one name, or in several."""
    done: list[str] = []
    for part in parts:
        names = [name for name, _ in _entries(tree, "/".join(done))]
        if part not in names:
            same = [name for name in names if name.lower() == part.lower()]
            near = same[0] if same else nearest(part, names) if len(part) > _SHORT else None
            if near is None:
                return None
            part = near
        done.append(part)
    return "/".join(done)


def _called(tree: Tree, name: str) -> str | None:
    """Return the shortest way to an entry called *name*, looking at no more than some thousands."""
    level, seen = [""], 0
    while level and name:
        below: list[str] = []
        for directory in level:
            for entry, status in _entries(tree, directory):
                path = f"{directory}/{entry}".lstrip("/")
                seen += 1
                if entry == name:
                    return path
                if seen > _MOST_SEEN:
                    return None
                if stat.S_ISDIR(status.st_mode):
                    below.append(path)
        level = below
    return None


def _listing(tree: Tree, parts: list[str], where: str) -> str:
    """Return a hint about the nearest directory above that is there."""
    above = parts[:-1]
    while above and not _is_there(tree, "/".join(above)):
        above.pop()
    directory = "/".join(above)
    names = [name for name, _ in _entries(tree, directory)]
    place = f"{directory}/ in {where}" if directory else where
    if not names:
        return f"{place} is empty"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{place} has {', '.join(names[:_MOST_NAMED])}{more}"
