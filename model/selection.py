"""Selections: the files of an input that a copy or a mount really reads, for content-based keys [KEY]."""

from __future__ import annotations

from pybuild.model.border import NamedTuple


class Selection(NamedTuple):
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
