"""Results of vertices: snapshots, directories of the client, and records of what was stored [KEY]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A committed file tree: a stack of *deltas*, base first; the empty stack is scratch.

    A delta is one directory of changes in the store (an overlay upper directory: whiteouts are
    character devices 0:0, replaced directories carry the opaque attribute). It does not know what
    it lies on, so merging trees is joining stacks, and a pulled layer is one delta whatever its
    image. Ids are names in the store, never digests of content unless they say so.
    """

    deltas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalTree:
    """A directory of the client, read in place: never copied into the store as a whole.

    It may also be the store's own copy of what a distant client has sent.

    Attributes:
        path: absolute path of the root.
        exclude: cleaned ignore patterns. Paths are resolved inside *path*, links too [CTX-4].
        git_modes: files count, and are copied, with the modes that git would store for them.
        held: nobody changes it while the build goes on.
        mountable: and a step may see it as it lies, if nothing is hidden: all of it is root's.
    """

    path: str
    exclude: tuple[str, ...] = ()
    git_modes: bool = False
    held: bool = False
    mountable: bool = False


Result = Snapshot | LocalTree


def stacked(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the trees stacked on each other, the last one on top.

    A delta that comes twice stays only where it is uppermost: there it already hides everything
    that its lower copy could contribute, and a kernel mounts a directory once in a stack.
    """
    seen: dict[str, None] = {}
    for snapshot in reversed(snapshots):
        for delta in reversed(snapshot.deltas):
            seen.setdefault(delta)
    return Snapshot(tuple(reversed(seen)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A stored result under its cache key.

    Attributes:
        seconds: the time that it took to make.
        created: when it was made, seconds since the epoch.
        name: the vertex's name in progress, such as ``[build 3/7] RUN make``.
    """

    key: Digest
    snapshot: Snapshot
    seconds: float = 0.0
    created: float = 0.0
    name: str = ""
