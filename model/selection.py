"""Selections: the files of an input that a copy or a mount really reads, for content-based keys [KEY]."""

from __future__ import annotations

from collections.abc import Mapping

from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.named import Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Paths of a tree.

    Attributes:
        path: absolute inside the tree; a Go ``filepath.Match`` pattern where *wildcard*.
        exclude: ignore-style patterns relative to what *path* selects.
        follow_links: a selected path that is a symlink stands for what it points to.
        contents_only: a selected directory stands for its contents: its own name does not count.
        keep_owner: owners count (snapshots); they are all 0 otherwise (local sources) [CTX-3].
        allow_empty: nothing selected is an answer, not an error.
        parents_pivot: as in `ops.Copy`: *path* is then matched with ``**``, and the directories
            between the pivot and what is matched count too [CP-32].
    """

    path: str = "/"
    wildcard: bool = False
    exclude: tuple[str, ...] = ()
    follow_links: bool = True
    contents_only: bool = True
    keep_owner: bool = True
    allow_empty: bool = False
    parents_pivot: int | None = None


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """The digest of a selection, and the named parts it was made of, so a miss can be explained.

    Attributes:
        digest: over every selected entry; mtime does not count [KEY-2].
        entries: ``(path, look)``, sorted; may be empty when the tree is too large to be listed.
            A look is ``mode uid:gid size body`` (`model.named`).
    """

    digest: Digest
    entries: Listing = ()


Contents = Mapping[int, Mapping[Selection, ContentDigest]]
"""The contents read of a vertex's inputs, by the input's index and the selection of it."""


def missing_source(ref: str, path: str, hints: tuple[str, ...] = ()) -> UserError:
    """Return the error that people and tools know by its wording [CP-4]."""
    return UserError(
        "failed to compute cache key: failed to calculate checksum of ref "
        f'{ref}: "{path}": not found',
        hints=hints,
    )
