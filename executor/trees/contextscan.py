"""Tell by stat alone whether a build context is as it was: the fully cached path's only look at it.

The signature covers everything that the content digests of the same prefixes could depend on, and
possibly more: when in doubt it covers the whole context. So an equal signature means equal digests,
as long as nothing was changed within a clock tick of the scan; the newest change time that was
seen is returned for that check. A different signature means nothing but "look closer".

Each file below the prefixes is asked, and none elsewhere. To ask directories alone would be cheaper
and wrong: their times say what came and went in them, and nothing of a file that was written in place.

Lean: imports os and stat; patterns only when there are some, and OpenSSL only for many files.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from operator import attrgetter, itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _hashlib import HASH as Hash
    from collections.abc import Sequence
    from hashlib import sha256
    from typing import Any

    from pybuild.model.patterns import PatternMatcher
else:
    # The interpreter's own: hashlib loads OpenSSL, which takes a tenth of a fully cached build, and
    # pays from some thousand files on.
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256
        else:
            from _sha256 import sha256
    except ImportError:
        from hashlib import sha256

_MANY = 1000
_looks = attrgetter("st_mode", "st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of a little data, in hex."""
    return sha256(data).hexdigest()


class _Widen(Exception):
    """A link leads out of the prefixes: the whole context has to be looked at."""


def scan_signature(
    path: str, prefixes: Sequence[str] = ("",), exclude: Sequence[str] = (), most: int = sys.maxsize
) -> tuple[str, int]:
    """Return the signature of a directory, and the newest change time in it (ns; 0 when empty).

    Args:
        path: root of the context.
        prefixes: paths inside it whose contents count; "" or "/" is all. A missing one counts as
            missing.
        exclude: cleaned ignore patterns; what they hide does not count.
        most: files in it that are worth the look.

    Raises:
        OSError: something cannot be read. ValueError: a malformed pattern, or there are more.
    """
    matcher: PatternMatcher | None = None
    if exclude:
        from pybuild.model.patterns import PatternMatcher

        matcher = PatternMatcher(exclude)
    places = _reduce(prefixes)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            scan = _Scan(matcher, places, most)
            for prefix in places:
                scan.prefix(root, prefix)
        except _Widen:
            scan = _Scan(matcher, [""], most)
            scan.prefix(root, "")
    finally:
        os.close(root)
    return scan.signature(), scan.newest_ns


def _reduce(prefixes: Sequence[str]) -> list[str]:
    """Return the prefixes sorted, without those that lie below another."""
    cleaned = {
        "/".join(part for part in prefix.split("/") if part not in ("", ".")) for prefix in prefixes
    }
    if any(part == ".." for prefix in cleaned for part in prefix.split("/")):
        return [""]
    kept: list[str] = []
    for prefix in sorted(cleaned):
        if not any(not k or prefix == k or prefix.startswith(k + "/") for k in kept):
            kept.append(prefix)
    return kept


class _Scan:
    def __init__(self, matcher: PatternMatcher | None, prefixes: list[str], most: int) -> None:
        self._matcher = matcher
        self._prefixes = prefixes
        self._left = most
        self._facts: list[bytes] = []
        self._digest: Hash | None = None
        self.newest_ns = 0

    def signature(self) -> str:
        if self._digest is None:
            return digest_of(b"".join(self._facts))
        self._digest.update(b"".join(self._facts))
        self._facts.clear()
        return self._digest.hexdigest()

    def _tell(self, *what: Any) -> None:
        # Version 2 of marshal writes equal values as equal bytes, and says where each one ends.
        self._facts.append(marshal.dumps(what, 2))
        if len(self._facts) == _MANY:
            if self._digest is None:
                import hashlib

                self._digest = hashlib.sha256()
            self._digest.update(b"".join(self._facts))
            self._facts.clear()

    def prefix(self, root: int, prefix: str) -> None:
        """Take in one prefix; a link on the way to it counts, and widens the scan if it leads out."""
        fd = os.dup(root)
        try:
            parts = prefix.split("/") if prefix else []
            for depth, part in enumerate(parts):
                here = "/".join(parts[: depth + 1])
                try:
                    status = os.stat(part, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    self._tell(here, "missing")
                    return
                if stat.S_ISLNK(status.st_mode):
                    raise _Widen  # what it stands for is looked at as part of the whole
                is_dir = stat.S_ISDIR(status.st_mode)
                if self._hides(here, is_dir):
                    self._tell(here, "hidden")
                    return
                if depth == len(parts) - 1 or not is_dir:
                    self._tell(here, _looks(status))
                    self.newest_ns = max(self.newest_ns, status.st_ctime_ns)
                else:  # --parents copies its look, but what else it holds does not count
                    self._tell(here, status.st_mode)
                if not is_dir:
                    return
                below = os.open(part, _OPEN, dir_fd=fd)
                os.close(fd)
                fd = below
            self._directory(fd, prefix)
        finally:
            os.close(fd)

    def _hides(self, path: str, is_dir: bool) -> bool:
        matcher = self._matcher
        if matcher is None or not matcher.matches(path):
            return False
        return not is_dir or matcher.can_skip_dir(path)

    def _directory(self, fd: int, path: str) -> None:
        with os.scandir(fd) as scan:
            entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in scan]
        self._left -= len(entries)
        if self._left < 0:
            raise ValueError("too many files")
        entries.sort(key=itemgetter(0))
        prefix = path + "/" if path else ""
        if self._matcher is not None:
            entries = [
                (name, status)
                for name, status in entries
                if not self._hides(prefix + name, stat.S_ISDIR(status.st_mode))
            ]
        looks = [(name, _looks(status)) for name, status in entries]
        self._tell(path, looks)
        self.newest_ns = max([self.newest_ns, *(look[3] for _, look in looks)])
        for name, look in looks:
            if stat.S_ISDIR(look[0]):
                below = os.open(name, _OPEN, dir_fd=fd)
                try:
                    self._directory(below, prefix + name)
                finally:
                    os.close(below)
            elif stat.S_ISLNK(look[0]) and self._prefixes != [""]:
                self._check_link(os.readlink(name, dir_fd=fd), path)

    def _check_link(self, target: str, directory: str) -> None:
        """Widen unless the link leads, for certain, to what the prefixes cover."""
        parts = [] if target.startswith("/") or not directory else directory.split("/")
        climbing = True
        for part in target.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                if not climbing:
                    raise _Widen  # behind a component that may itself be a link
                if parts:
                    parts.pop()
            else:
                climbing = False
                parts.append(part)
        path = "/".join(parts)
        if not any(path == p or path.startswith(p + "/") for p in self._prefixes):
            raise _Widen
