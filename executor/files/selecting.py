"""The paths of a tree that a copy, or its content digest, reads [CP-3, CP-4, CP-6].

One function for both, because a copy must read exactly the files that its cache key was made from.
"""

from __future__ import annotations

import errno
import os
import stat

from pybuild.executor.zygote.faults import USER, Fault
from pybuild.image.layer.descent import OPEN_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.executor.files.tree import Tree, TreePlace
    from pybuild.model.patterns import PatternMatcher


class Source:
    """One selected path.

    Attributes:
        path: as selected, before a link at its end is followed; no leading slash.
        key: its name in a content digest: relative to where the pattern begins.
        is_match: a wildcard found it.
    """

    __slots__ = ("is_match", "key", "path")

    def __init__(self, path: str, key: str, is_match: bool) -> None:
        self.path = path
        self.key = key
        self.is_match = is_match

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class NoFolder(FileNotFoundError):
    """There is no directory *path*, whose entries a pattern is to match; *hidden* as in `Hidden`."""

    def __init__(self, path: str, hidden: str | None) -> None:
        super().__init__(path)
        self.path = path
        self.hidden = hidden


def select(tree: Tree, path: str, *, wildcard: bool, lenient: bool = True) -> list[Source]:
    """Return the entries that *path* selects: itself, or the sorted matches of a pattern.

    Raises:
        Fault: user; a malformed pattern.
        NoFolder: not *lenient*, and what stands before the pattern's first wildcard is not there.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if wildcard:
        first = next((i for i, part in enumerate(parts) if _is_pattern(part)), len(parts))
        if first < len(parts):
            try:
                return _expand(tree, parts, first)
            except NoFolder:
                if lenient:
                    return []
                raise
        parts = [_unescape(part) for part in parts]
    text = "/".join(parts)
    return [Source(text, parts[-1] if parts else "", False)]


def _is_pattern(part: str) -> bool:
    """Return whether *part* has a wildcard that is not escaped."""
    at = 0
    while at < len(part):
        if part[at] in "*?[":
            return True
        at += 2 if part[at] == "\\" else 1
    return False


def _unescape(part: str) -> str:
    out: list[str] = []
    at = 0
    while at < len(part):
        if part[at] == "\\" and at + 1 < len(part):
            at += 1
        out.append(part[at])
        at += 1
    return "".join(out)


def _expand(tree: Tree, parts: list[str], first: int) -> list[Source]:
    """Match component by component: Go's ``*`` never crosses a slash, so this is the same set.

    Links are followed up to the first wildcard and at the very end, not in between.
    """
    from pybuild.model.patterns import match

    for part in parts[first:]:
        try:
            match(part, "")
        except ValueError as error:
            raise Fault(USER, f'{error}: "{"/".join(parts)}"') from error
    folder = "/".join(_unescape(part) for part in parts[:first])
    try:
        place = tree.locate(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoFolder("/" + folder, getattr(error, "path", None)) from None
    with place:
        if place.status is None:
            raise NoFolder("/" + folder, None)
        if not place.is_dir:
            return []
        base = place.path
        paths: list[str] = []
        fd = place.open_dir()
    try:
        _descend(tree, fd, base, parts[first:], paths)
    finally:
        os.close(fd)
    skip = len(base) + 1 if base else 0
    return [Source(path, path[skip:], True) for path in paths]


def _descend(tree: Tree, fd: int, path: str, patterns: list[str], paths: list[str]) -> None:
    from pybuild.model.patterns import match

    pattern, rest = patterns[0], patterns[1:]
    prefix = path + "/" if path else ""
    for name, status in tree.entries(fd, path):
        if not match(pattern, name):
            continue
        if not rest:
            paths.append(prefix + name)
        elif stat.S_ISDIR(status.st_mode):
            below = os.open(name, OPEN_DIR, dir_fd=fd)
            try:
                _descend(tree, below, prefix + name, rest, paths)
            finally:
                os.close(below)


class Picker:
    """The choice of entries below a selected directory: ``--exclude`` and ``--parents``.

    Paths are relative to that directory, which is itself the empty path and always meant.

    Attributes:
        is_choosy: some are not meant.
    """

    def __init__(self, exclude: Sequence[str] = (), include: str = "") -> None:
        """Args:
        include: a pattern with ``**``; only what it matches, or is below that, is meant.

        Raises:
            Fault: user; a malformed pattern.
        """
        self._exclude = _matcher(exclude) if exclude else None
        self._include = _matcher((include,)) if include else None
        self._parts = include.split("/")
        self.is_choosy = bool(exclude or include)

    def picks(self, path: str) -> bool:
        if not path:
            return True
        if self._include is not None and not self._include.matches(path):
            return False
        return self._exclude is None or not self._exclude.matches(path)

    def may_pick_below(self, path: str) -> bool:
        """Return whether directory *path* must be read; errs to the side of true."""
        if self._exclude is not None and self._exclude.can_skip_dir(path):
            return False
        if self._include is None or self._include.matches(path):
            return True
        parts = path.split("/")
        for part, pattern in zip(parts, self._parts, strict=False):
            if any(c in pattern for c in "*?[\\"):
                return True
            if part != pattern:
                return False
        return len(self._parts) > len(parts)


def _matcher(patterns: Sequence[str]) -> PatternMatcher:
    from pybuild.model.patterns import PatternMatcher

    try:
        return PatternMatcher(patterns)
    except ValueError as error:
        raise Fault(USER, str(error)) from error


def find(tree: Tree, path: str, *, follow: bool) -> TreePlace:
    """Return the place of a selected path, which must be there; the caller closes it.

    Raises:
        FileNotFoundError: also for a file on the way, and `tree.Hidden` when ignored.
    """
    try:
        place = tree.locate(path, follow=follow)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/" + path) from error
    if place.status is None:
        place.close()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/" + path)
    return place
