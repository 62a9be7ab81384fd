"""Differences of two lists of files, path by path. Pure; looks are those of `model.named`."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from pybuild.model.dataclass import dataclass
from pybuild.model.named import Listing

MAX_DIFFERENCES = 100

_KINDS = {
    "01": "pipe",
    "02": "character device",
    "04": "directory",
    "06": "block device",
    "10": "file",
    "12": "link",
    "14": "socket",
}
# What decides comes first: a file that came or went says more than how it looks.
_ORDER = ("removed", "added", "type", "link", "mode", "owner", "content")


@dataclass(frozen=True, slots=True)
class FileDifference:
    """*what* is one of removed, added, type, link, mode, owner, content."""

    what: str
    path: str
    was: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class _Look:
    kind: str
    mode: str
    owner: str
    size: str
    body: str

    @classmethod
    def parse(cls, text: str) -> _Look:
        mode, _, rest = text.partition(" ")
        owner, _, rest = rest.partition(" ")
        size, _, body = rest.partition(" ")
        if not rest:  # a directory whose own looks do not count, or a dangling link
            return cls(kind=text, mode="", owner="", size="", body="")
        return cls(
            kind=_KINDS.get(mode[:2], mode[:2]), mode=mode[2:], owner=owner, size=size, body=body
        )

    @property
    def shown(self) -> str:
        if self.kind == "link":
            return f"link to {self.body[1:]}"
        return f"{self.kind} of {self.size} bytes" if self.kind == "file" else self.kind


def file_differences(was: Listing, now: Listing) -> list[FileDifference]:
    """Return the differences, sorted by kind and path, at most `MAX_DIFFERENCES`."""
    old, new = _without_equal_ends(was, now)
    if len(old) + len(new) > len(now):  # where most is the same, nothing has moved
        was = _as_seen_from(now, was)
        old, new = _without_equal_ends(was, now)
    before, after = dict(old), dict(new)
    changed = {path for path, _ in set(old) ^ set(new)}
    changes = [
        one for path in sorted(changed) for one in _file(path, before.get(path), after.get(path))
    ]
    changes.sort(key=lambda one: (_ORDER.index(one.what), one.path))
    return changes[:MAX_DIFFERENCES]


def _without_equal_ends(was: Listing, now: Listing) -> tuple[Listing, Listing]:
    """Return both without the entries at the start and at the end that are the same."""
    shorter = min(len(was), len(now))
    start = next((at for at in range(shorter) if was[at] != now[at]), shorter)
    left = shorter - start
    end = next((at for at in range(left) if was[-1 - at] != now[-1 - at]), left)
    return was[start : len(was) - end], now[start : len(now) - end]


def _as_seen_from(now: Listing, was: Listing) -> Listing:
    """Return *was* under the directory of *now*, if that is what makes most of it the same files.

    Equal contents share one list, which has the paths that its files had where it was first made:
    those of a context, say, and not of the stage that they were copied to.
    """
    old, new = _root(was), _root(now)
    if old == new:
        return was
    files = dict(now)
    moved = {_moved(path, old, new): look for path, look in was}
    if len(moved.keys() & files.keys()) <= len(dict(was).keys() & files.keys()):
        return was
    # The root of a tree is in no list.
    moved.pop("", None)
    if not old and files.get(new) == "directory":
        moved[new] = "directory"
    return tuple(sorted(moved.items()))


def _root(listing: Listing) -> str:
    """Return the directory whose contents are listed."""
    first = min((path for path, _ in listing), key=len, default="")
    if dict(listing).get(first) == "directory" and all(
        path == first or path.startswith(first + "/") for path, _ in listing
    ):
        return first
    return posixpath.commonpath([posixpath.dirname(path) for path, _ in listing]) if listing else ""


def _moved(path: str, old: str, new: str) -> str:
    return posixpath.join(new, posixpath.relpath(path, old or ".")) if path != old else new


def _file(path: str, was: str | None, now: str | None) -> Iterator[FileDifference]:
    if was is None or now is None:
        if was is not None:
            yield FileDifference("removed", path, _Look.parse(was).shown, None)
        if now is not None:
            yield FileDifference("added", path, None, _Look.parse(now).shown)
        return
    old, new = _Look.parse(was), _Look.parse(now)
    if old.kind != new.kind:
        yield FileDifference("type", path, old.shown, new.shown)
        return
    if old.mode != new.mode:
        yield FileDifference("mode", path, old.mode, new.mode)
    if old.owner != new.owner:
        yield FileDifference("owner", path, old.owner, new.owner)
    if (old.size, old.body) == (new.size, new.body):
        return
    if old.kind == "link":
        yield FileDifference("link", path, old.body[1:], new.body[1:])
    else:
        yield FileDifference("content", path, _bytes(old), _bytes(new))


def _bytes(look: _Look) -> str:
    return f"{look.size} bytes, sha256 {look.body}…"
